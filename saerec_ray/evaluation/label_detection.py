"""Whether published names find the items of their intents, beside names of other intents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.evaluation.verdicts import Rates, balanced_threshold, summary
from saerec_ray.intents.catalogue import Catalogue, Intent
from saerec_ray.intents.detection import Examples, draw_examples, judge, split_halves
from saerec_ray.intents.gates import AUC_VERDICT

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

HISTOGRAM_BINS = 20
GOOD_AUC = 0.7
_OTHER_EXAMPLES = 2
"""Added to the seed: naming took the seed for one half and the next for the other."""
_GATE_EXAMPLES = (5, 6)
"""The same for the two parts of the judging half; other judges took those between."""


def label_detection(
    catalogue: Catalogue,
    codes: csr_array,
    vectors: Floats,
    encode: Callable[[list[str]], Floats],
    seed: int,
    gate: float = GOOD_AUC,
) -> dict[str, Any]:
    """Held-out AUC of the published labels, as people read them, by the embedding judge.

    `codes`: (items, latents); `vectors`: unit embeddings of the items, (items, d); `encode` turns texts into
    unit vectors of the same model; `seed` and `gate`: of the intents stage. Items are of the
    half that labels were not made from, drawn anew. But labels were published by their AUC on the same half, with
    the same hard negatives, so the choice flatters `own`; `fresh_gate` has a figure that no choice flatters, see
    _fresh_gate. `shuffled` judges the label of another published intent on the same items.
    `verdicts` are those of a cosine threshold, which each label sets on items of the half that it was made from.
    Coverage is the share of the activation mass that lies on published intents.
    """
    width = codes.shape[1]
    mass = np.asarray(codes.sum(axis=0), dtype=np.float64).ravel()
    known = [intent for intent in catalogue.intents if intent.latent < width]
    published = [intent for intent in known if intent.published]
    kept = [intent.latent for intent in published]
    found: dict[str, Any] = {
        "latents": width,
        "published": len(published),
        "coverage": float(mass[kept].sum() / mass.sum()) if mass.sum() else 0.0,
        "auc_when_named": _mean(published),
        "auc_when_named_all": _mean(known),
        "judged": 0,
        "fresh_gate": None,
    }
    naming, judging = split_halves(len(vectors), seed)
    examples = draw_examples(codes, vectors, judging, seed + _OTHER_EXAMPLES)
    earlier = draw_examples(codes, vectors, naming, seed + _OTHER_EXAMPLES)
    judged = [intent for intent in published if examples[intent.latent].judgeable]
    if not judged:
        return found
    labels = encode([intent.label for intent in judged])
    foreign = labels[strangers(len(judged), seed)]
    latents = [intent.latent for intent in judged]
    own, shuffled = (
        np.array(
            [judge(label, examples[latent], vectors) for label, latent in zip(chosen, latents, strict=True)]
        )
        for chosen in (labels, foreign)
    )
    verdicts = {
        name: _verdicts(chosen, [earlier[f] for f in latents], [examples[f] for f in latents], vectors)
        for name, chosen in (("own", labels), ("shuffled", foreign))
    }
    return found | {
        "judged": len(judged),
        "own": _summary(own, mass[latents]),
        "shuffled": _summary(shuffled, mass[latents]) if len(judged) > 1 else None,
        "fresh_gate": _fresh_gate(known, codes, vectors, judging, encode, seed, gate),
        "verdicts": verdicts if len(judged) > 1 else verdicts | {"shuffled": None},
        "histogram": {
            "edges": np.linspace(0, 1, HISTOGRAM_BINS + 1).tolist(),
            "own": _histogram(own),
            "shuffled": _histogram(shuffled) if len(judged) > 1 else [0] * HISTOGRAM_BINS,
        },
    }


def _fresh_gate(
    known: list[Intent],
    codes: csr_array,
    vectors: Floats,
    judging: Indices,
    encode: Callable[[list[str]], Floats],
    seed: int,
    gate: float,
) -> dict[str, Any] | None:
    """The AUC of labels on items that neither made nor chose them; None when no label can be judged so.

    The judging half is split in two by item. Of the intents that are published, or failed at their name alone,
    those pass whose label has an AUC of `gate` in the first part; `auc` is their mean in the second, `auc_at_gate`
    that in the first: what the choice flatters is the difference. It is not that to `own`, whose hard negatives are of
    twice the items and so harder. A label by a language model was accepted by the whole half: for such it is flattered
    still.
    """
    candidates = [each for each in known if each.published or each.verdict.startswith(AUC_VERDICT)]
    choosing, fresh = (
        draw_examples(codes, vectors, judging[part], seed + draw)
        for part, draw in zip(split_halves(len(judging), seed), _GATE_EXAMPLES, strict=True)
    )
    both = [each for each in candidates if choosing[each.latent].judgeable and fresh[each.latent].judgeable]
    if not both:
        return None
    labels = encode([each.label for each in both])
    aucs = np.array(
        [
            [judge(label, part[each.latent], vectors) for part in (choosing, fresh)]
            for label, each in zip(labels, both, strict=True)
        ]
    )
    passed = aucs[aucs[:, 0] >= gate]
    at_gate, after = passed.mean(axis=0).tolist() if len(passed) else (None, None)
    return {
        "gate": gate,
        "judged": len(both),
        "passed": len(passed),
        "auc_at_gate": at_gate,
        "auc": after,
    }


def _verdicts(
    labels: Floats, earlier: list[Examples], examples: list[Examples], vectors: Floats
) -> dict[str, Any] | None:
    """Yes where the cosine reaches the label's threshold; None when no label has carriers to set one on."""
    rates = []
    for label, seen, judged in zip(labels, earlier, examples, strict=True):
        if len(seen.positives) and len(seen.negatives):
            limit = balanced_threshold(vectors[seen.positives] @ label, vectors[seen.negatives] @ label)
            said = (vectors[items] @ label >= limit for items in (judged.positives, judged.negatives))
            rates.append(Rates.of(*said))
    return summary(rates) if rates else None


def strangers(count: int, seed: int) -> npt.NDArray[np.int64]:
    """A place other than its own for each of `count` places, each given once."""
    order = np.random.default_rng(seed).permutation(count)
    others = np.empty(count, dtype=np.int64)
    others[order] = np.roll(order, 1)
    return others


def _mean(intents: list[Intent]) -> float | None:
    aucs = [intent.detection_auc for intent in intents if intent.detection_auc is not None]
    return float(np.mean(aucs)) if aucs else None


def _histogram(aucs: Doubles) -> list[int]:
    counts: list[int] = np.histogram(aucs, bins=HISTOGRAM_BINS, range=(0, 1))[0].tolist()
    return counts


def _summary(aucs: Doubles, mass: Doubles) -> dict[str, float]:
    return {
        "mean": float(aucs.mean()),
        "median": float(np.median(aucs)),
        "weighted_mean": float(np.average(aucs, weights=mass)),
        "good_share": float((aucs >= GOOD_AUC).mean()),
    }
