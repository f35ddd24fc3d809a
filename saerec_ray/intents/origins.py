"""Where intents come from: texts, what people take together, or attributes of items."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.dictionary.concatenated import Dictionaries
from saerec_ray.intents.catalogue import Catalogue, Origin
from saerec_ray.intents.detection import split_halves
from saerec_ray.intents.naming import directions_of_carriers

Floats = npt.NDArray[np.float32]


def directions_in_texts(
    dictionaries: Dictionaries, codes: csr_array, embeddings: Floats, seed: int
) -> Floats:
    """A direction among the text embeddings for every latent, to name it by: unit rows, (latents, d_text).

    Latents of texts have their own; all others have that of the items that carry them, of the
    naming half alone: names are judged on the other half. `codes`: (items, latents); `embeddings`: (items, d_text).
    """
    text = dictionaries.text
    if dictionaries.width == text.width:
        return text.decoder
    naming, _ = split_halves(len(embeddings), seed)
    carried = csr_array(codes[naming][:, text.width :])
    return np.concatenate(
        [text.decoder, directions_of_carriers(carried, embeddings[naming], text.scaling.mean)]
    )


def with_origins(catalogue: Catalogue, dictionaries: Dictionaries) -> Catalogue:
    """The catalogue with the source of every intent."""
    intents = [
        intent.model_copy(update={"dictionary": dictionaries.origin(intent.latent)})
        for intent in catalogue.intents
    ]
    return catalogue.model_copy(update={"intents": intents})


def figures_by_origin(catalogue: Catalogue, codes: csr_array) -> dict[str, Any]:
    """How the sources compare: latents that are never active, published ones, and how good their names are."""
    mass = np.asarray(codes.sum(axis=0)).ravel()
    figures: dict[str, Any] = {}
    for origin in get_args(Origin):
        own = [intent for intent in catalogue.intents if intent.dictionary == origin]
        if not own:
            continue
        latents = [intent.latent for intent in own]
        published = [intent for intent in own if intent.published]
        total = float(mass[latents].sum())
        figures[f"{origin}_latents"] = len(own)
        figures[f"{origin}_dead"] = int((mass[latents] == 0).sum())
        figures[f"{origin}_published"] = len(published)
        figures[f"{origin}_mass_covered"] = (
            float(mass[[intent.latent for intent in published]].sum()) / total if total else 0.0
        )
        for name, group in (("judged", own), ("published", published)):
            aucs = [intent.detection_auc for intent in group if intent.detection_auc is not None]
            figures[f"{origin}_detection_auc_{name}"] = float(np.mean(aucs)) if aucs else None
    return figures
