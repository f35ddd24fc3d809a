"""A dictionary that was trained on other items, taken over for these: no training, other codes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from saerec_ray.dictionary.metrics import activation_counts, variance_unexplained
from saerec_ray.dictionary.sae import (
    Dictionary,
    Floats,
    unit_rows,
    write_codes,
    write_dictionary,
)
from saerec_ray.dictionary.samples import item_codes, load_samples, with_scaled_item_codes
from saerec_ray.dictionary.stability import write_stability
from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.errors import InputError


def adopt_dictionary(
    config: DictionaryConfig,
    dictionary: Dictionary,
    embedded: Path,
    folder: Path,
    stability: Floats | None = None,
    *,
    cold: Collection[int] = (),
) -> dict[str, Any]:
    """Writes a dictionary from elsewhere with the codes of the items in `embedded`.

    With `config.recentre` its inputs are centred on the mean of these items, not on that of its own; see recentred. The
    scale of the codes is set anew, so that the backbone meets codes of the usual size. The stability of its
    latents, (latents,), is taken over as it is. Reviews count in the codes. The items `cold`, which training must not
    know, decide neither mean nor scale, and their reviews do not count. Returns the metrics.
    Raises InputError when the vectors have another length than those it was trained on.
    """
    samples = load_samples(embedded, cold)
    vectors = samples.texts
    expected = dictionary.decoder.shape[1]
    if vectors.shape[1] != expected:
        raise InputError(
            f"The dictionary of {config.source} reads vectors of {expected} numbers, but the texts here have "
            f"{vectors.shape[1]}; embed them with the language model it was trained on."
        )
    known = np.setdiff1d(np.arange(len(vectors)), list(cold))
    if config.recentre:
        dictionary = recentred(dictionary, vectors[known])
    dictionary = with_scaled_item_codes(dictionary, samples, known)
    codes = item_codes(dictionary, samples)
    write_dictionary(dictionary, folder)
    write_codes(codes, folder)
    if stability is not None:
        write_stability(stability, folder)
    return {
        "source": str(config.source),
        "items": len(vectors),
        "fvu": unexplained_about_own_mean(dictionary, vectors),
        "l0": codes.nnz / len(vectors),
        "dead_share": float((activation_counts(codes) == 0).mean()),
    }


def recentred(dictionary: Dictionary, vectors: Floats) -> Dictionary:
    """The dictionary with its inputs centred on the mean of these vectors, (items, d); the scale stays.

    One that was trained on inputs that are not centred, whose mean is 0, reads others so, too.
    """
    if not dictionary.scaling.mean.any():
        return dictionary
    mean = unit_rows(vectors).mean(axis=0)
    return replace(dictionary, scaling=replace(dictionary.scaling, mean=mean))


def unexplained_about_own_mean(dictionary: Dictionary, vectors: Floats) -> float:
    """variance_unexplained of these vectors, (items, d), about their own mean and not that of training.

    It does not depend on where the dictionary is centred, so dictionaries from elsewhere can be compared by it.
    Above 1 it is worse than saying the mean for every item.
    """
    own_mean = unit_rows(vectors).mean(axis=0)
    return variance_unexplained(dictionary.reconstruct(vectors), vectors, own_mean)
