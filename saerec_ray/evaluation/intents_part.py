"""The part `intents`: whether latents mean something and their names say what, beside controls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.data.prepared import PreparedItems
from saerec_ray.dictionary.metrics import PrincipalComponents
from saerec_ray.dictionary.sae import Dictionary, unit_rows
from saerec_ray.dictionary.split import split_items
from saerec_ray.evaluation.absorption import absorption
from saerec_ray.evaluation.coded_items import CodedItems
from saerec_ray.evaluation.codings import Features
from saerec_ray.evaluation.fuzzing import fuzzing
from saerec_ray.evaluation.independent_space import attribute_sets, independent_spaces
from saerec_ray.evaluation.intent_families import intent_forest
from saerec_ray.evaluation.intruder import intruder_test
from saerec_ray.evaluation.model_detection import Judge, model_detection
from saerec_ray.evaluation.monosemanticity import monosemanticity_of
from saerec_ray.evaluation.probing import Split, dense_probes, probed_attributes, probing_report
from saerec_ray.evaluation.purity import purity_against_controls
from saerec_ray.evaluation.random_names import NamedCodes, Naming, beside_random, drawn_latents
from saerec_ray.intents.catalogue import Catalogue
from saerec_ray.intents.stage import item_categories

Floats = npt.NDArray[np.float32]
Encode = Callable[[list[str]], Floats]
OnProgress = Callable[[float, float], None]

PROBE_TEST_SHARE = 0.3
CODINGS = ("dictionary", "random_dictionary", "k_means", "pca", "raw", "permuted")
"""The features that are compared, the ones measured first."""
_STEPS = 9


def measure_intents_part(
    coded: CodedItems,
    items: PreparedItems,
    catalogue: Catalogue,
    attributes: int,
    latents: int,
    seed: int,
    naming: Naming,
    on_progress: OnProgress,
    *,
    fuzzed: int,
    judge: Judge | None = None,
) -> dict[str, Any]:
    """Names, probes, purity, intruders, absorption and monosemanticity of the dictionary of the texts.

    At most so many `attributes` are probed for and so many `latents` go through the intruder test, drawn by the
    seed; `naming` is that of the intents stage. As many latents of the random dictionary are named and judged,
    too. All is measured on the codes that people meet, with reviews where there are any. Only fuzzing, which takes
    texts of at most `fuzzed` intents apart by sentence, chooses them by the codes of texts. With a `judge`, a
    language model judges names of the catalogue, too. Where the codes of the model hold a second dictionary, its
    intents are in the families, but not in the figures.
    """

    def within(first: int, last: int) -> OnProgress:
        return lambda done, total: on_progress(first + (last - first) * done / total, _STEPS)

    features = _features(coded, seed)
    sparse = {name: each for name, each in features.items() if isinstance(each, csr_array)}
    own = NamedCodes(catalogue, coded.codes)
    on_progress(1, _STEPS)
    found: dict[str, Any] = {
        "detection": naming.detection(own, coded.vectors),
        "families": intent_forest(catalogue),
        "fuzzing": fuzzing(
            catalogue,
            coded.dictionary,
            coded.text_codes,
            coded.vectors,
            items.texts,
            naming.encode,
            fuzzed,
            naming.seed,
        ),
    }
    on_progress(3, _STEPS)
    control, found["random_dictionary"] = _random_names(
        own, coded, sparse, items, naming, latents, fuzzed, seed
    )
    on_progress(4, _STEPS)
    if judge is not None:
        found["model_detection"] = model_detection(
            judge, catalogue, coded.codes, coded.vectors, items.texts, naming.seed, within(4, 5)
        )
    on_progress(5, _STEPS)
    found |= _probed(coded, items, features, attributes, seed, within(5, 7))
    on_progress(7, _STEPS)
    found |= category_figures(sparse, items, seed)
    on_progress(8, _STEPS)
    scored = {name: features[name] for name in CODINGS if name != "k_means"}
    found["spaces"] = space_figures(own, control, scored, items, latents, seed)
    on_progress(_STEPS, _STEPS)
    return found


def _random_names(
    own: NamedCodes,
    coded: CodedItems,
    sparse: dict[str, csr_array],
    items: PreparedItems,
    naming: Naming,
    latents: int,
    fuzzed: int,
    seed: int,
) -> tuple[NamedCodes, dict[str, Any]]:
    """Latents of the random dictionary with names, and how good these are; `own`: the names they are beside."""
    random = coded.codings["random_dictionary"]
    assert isinstance(random, Dictionary)
    drawn = drawn_latents(random.width, latents, seed)
    part = replace(
        random,
        encoder=random.encoder[drawn],
        encoder_bias=random.encoder_bias[drawn],
        decoder=random.decoder[drawn],
    )
    codes = csr_array(sparse["random_dictionary"][:, drawn])
    text_codes = csr_array(random.encode(coded.vectors)[:, drawn])
    control = naming.name(codes, part.decoder, part.scaling.mean, coded.vectors, items)
    return control, {
        **beside_random(own, control, random.width, coded.vectors, naming),
        "fuzzing": fuzzing(
            control.catalogue,
            part,
            text_codes,
            coded.vectors,
            items.texts,
            naming.encode,
            fuzzed,
            naming.seed,
        ),
    }


def category_figures(sparse: dict[str, csr_array], items: PreparedItems, seed: int) -> dict[str, Any]:
    """How far latents of the codings keep to categories; nothing where no item has one."""
    categories = attribute_sets([{"": values} for values in item_categories(items)])
    if not categories.nnz:
        return {}
    kept = {name: sparse[name] for name in ("dictionary", "random_dictionary", "k_means")}
    return {"purity": purity_against_controls(kept, categories, seed)}


def space_figures(
    own: NamedCodes,
    control: NamedCodes,
    scored: dict[str, Features],
    items: PreparedItems,
    latents: int,
    seed: int,
) -> dict[str, Any]:
    """In each independent space: intruders of the learnt latents and of the control's, and monosemanticity."""
    return {
        space.name: {
            "intruder": intruder_test(own.codes, space, own.published, latents, seed),
            "intruder_random_dictionary": intruder_test(
                control.codes, space, control.published, latents, seed
            ),
            "monosemanticity": monosemanticity_of(scored, space, latents, seed),
        }
        for space in independent_spaces(items)
    }


def _features(coded: CodedItems, seed: int) -> dict[str, Features]:
    """The codes of all items and what they are compared with, by CODINGS; controls fitted on training items.

    With reviews the dictionary and the random one read them, all others read the items' own texts.
    """
    order = np.random.default_rng(seed).permutation(len(coded.vectors))
    return {
        "dictionary": coded.codes,
        "random_dictionary": coded.features(coded.codings["random_dictionary"]),
        "k_means": coded.features(coded.codings["k_means"]),
        "pca": PrincipalComponents.fit(coded.fitting).encode(coded.vectors),
        "raw": unit_rows(coded.vectors),
        "permuted": coded.codes[order],
    }


def _probed(
    coded: CodedItems,
    items: PreparedItems,
    features: dict[str, Features],
    count: int,
    seed: int,
    on_progress: OnProgress,
) -> dict[str, Any]:
    """Probing and absorption; nothing where no attribute has enough items."""
    split = Split(*split_items(coded.vectors, PROBE_TEST_SHARE, seed))
    attributes = probed_attributes(items.attributes, split, count, seed)
    if len(attributes) == 0:
        return {}
    steps = len(attributes) * (len(features) + 1)
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        on_progress(done, steps)

    raw = unit_rows(coded.vectors)
    dense = dense_probes(raw, attributes, split, tick)
    weights = np.stack([probe.weights for probe in dense])
    return {
        "probing": probing_report(features, dense, attributes, split, tick),
        "absorption": {
            name: absorption(features[name], made.decoder, weights, attributes, split)
            for name, made in coded.codings.items()
            if isinstance(made, Dictionary)
        },
    }


def intents_headline(report: dict[str, Any]) -> dict[str, float]:
    """Plain figures for the manifest; none where the part was not measured."""
    found = report.get("intents", {})
    figures = {}
    if found.get("detection", {}).get("judged"):
        figures["detection_auc"] = found["detection"]["own"]["mean"]
        fresh = found["detection"]["fresh_gate"]
        if fresh and fresh["auc"] is not None:
            figures["detection_auc_fresh_gate"] = fresh["auc"]
    if judged := found.get("model_detection"):
        figures["judge_unanswered"] = judged["unanswered"]
        if judged["own"]:
            figures["judge_balanced_accuracy"] = judged["own"]["balanced_accuracy"]
    if "probing" in found:
        figures["probing_auc_1"] = found["probing"]["codings"]["dictionary"]["1"]["auc"]
    return figures
