"""What the parts `dictionary` and `intents` measure of the second dictionary, that of what people take together."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.data.prepared import PreparedItems
from saerec_ray.evaluation.cooccurrence_items import CooccurrenceItems
from saerec_ray.evaluation.dictionary_part import coding_figures
from saerec_ray.evaluation.intents_part import category_figures, space_figures
from saerec_ray.evaluation.random_names import NamedCodes, Naming, beside_random, drawn_latents
from saerec_ray.intents.catalogue import Catalogue
from saerec_ray.intents.detection import split_halves
from saerec_ray.intents.naming import directions_of_carriers

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


def cooccurrence_figures(second: CooccurrenceItems) -> dict[str, Any]:
    """As of the dictionary of texts, of vectors of co-occurrence; no ranking is made from these."""
    return {**_items(second), "agreement": second.agreement, **coding_figures(second.coded)}


def cooccurrence_intents(
    second: CooccurrenceItems,
    items: PreparedItems,
    embeddings: Floats,
    mean: Floats,
    catalogue: Catalogue,
    naming: Naming,
    latents: int,
    seed: int,
) -> dict[str, Any]:
    """Names, purity, intruders and monosemanticity of its intents, beside a random dictionary on the same vectors.

    `embeddings`: of the texts, unit rows, (items, d), seen from `mean`, (d,): names are texts. They are judged on
    all items, as when they were made; the other figures are of the items that have a vector. At most so many
    `latents` of the control are named, and of both go through the intruder test. Texts are not taken apart, because
    this dictionary does not read them.
    """
    coded = second.coded
    own = NamedCodes(second.own_intents(catalogue), second.of_all_items(coded.codes))
    sparse = {"dictionary": coded.codes} | {
        name: csr_array(coded.codings[name].encode(coded.vectors))
        for name in ("random_dictionary", "k_means")
    }
    random = sparse["random_dictionary"]
    drawn = csr_array(random[:, drawn_latents(random.shape[1], latents, seed)])
    drawn_of_all = second.of_all_items(drawn)
    half, _ = split_halves(len(embeddings), naming.seed)
    directions = directions_of_carriers(csr_array(drawn_of_all[half]), embeddings[half], mean)
    control = naming.name(drawn_of_all, directions, mean, embeddings, items)
    known = _only(items, second.rows)
    order = np.random.default_rng(seed).permutation(len(second.rows))
    return {
        **_items(second),
        "detection": naming.detection(own, embeddings),
        "random_dictionary": beside_random(own, control, random.shape[1], embeddings, naming),
        **category_figures(sparse, known, seed),
        "spaces": space_figures(
            NamedCodes(own.catalogue, coded.codes),
            NamedCodes(control.catalogue, drawn),
            {
                "dictionary": coded.codes,
                "random_dictionary": random,
                "permuted": csr_array(coded.codes[order]),
            },
            known,
            latents,
            seed,
        ),
    }


def _items(second: CooccurrenceItems) -> dict[str, int]:
    return {"items": len(second.rows), "of_items": second.items}


def _only(items: PreparedItems, rows: Indices) -> PreparedItems:
    return PreparedItems(
        ids=[items.ids[row] for row in rows],
        titles=[items.titles[row] for row in rows],
        texts=[items.texts[row] for row in rows],
        attributes=[items.attributes[row] for row in rows],
    )
