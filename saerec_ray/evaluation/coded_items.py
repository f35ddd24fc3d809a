"""The items as a dictionary sees them, with the split it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from scipy.sparse import csr_array

from saerec_ray.dictionary.sae import Dictionary, Floats, read_dictionary
from saerec_ray.dictionary.split import split_for_training
from saerec_ray.dictionary.stability import read_stability
from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.errors import StageError
from saerec_ray.evaluation.codings import Coding, codings, mean_active
from saerec_ray.manifest import read_manifest
from saerec_ray.text.embed import load_embeddings

Indices = npt.NDArray[np.int64]

MOST_FITTED = 20_000
"""Training items that controls and thresholds are fitted on, at the most."""


@dataclass(frozen=True)
class CodedItems:
    """A dictionary with the vectors it reads. No item of `held_out` took part in training or choosing it."""

    dictionary: Dictionary
    vectors: Floats  # raw, (items, d)
    train: Indices
    choosing: Indices
    """Not trained on, but thresholds were set on them."""
    held_out: Indices
    seed: int
    trained_here: bool = True
    """False where the dictionary comes from other items: then all of these are new to it."""
    stability: Floats | None = None
    """Smallest cosine of each latent to its match under other seeds, (latents,); None with one seed."""

    @cached_property
    def codes(self) -> csr_array:
        """Codes of all items: (items, latents)."""
        return self.dictionary.encode(self.vectors)

    @cached_property
    def fitting(self) -> Floats:
        """Raw vectors of at most MOST_FITTED training items, drawn by the seed: (items, d)."""
        chosen = np.random.default_rng(self.seed).permutation(self.train)[:MOST_FITTED]
        return np.asarray(self.vectors[np.sort(chosen)])

    @property
    def calibrating(self) -> Floats:
        """Raw vectors to set thresholds on: (items, d)."""
        return np.asarray(self.vectors[self.choosing])

    @cached_property
    def codings(self) -> dict[str, Coding]:
        """The dictionary and its controls, see codings.codings."""
        return codings(
            self.dictionary, self.fitting, mean_active(self.dictionary, self.calibrating), self.seed
        )


def read_coded_items(embedded: Path, dictionary_folder: Path) -> CodedItems:
    """Reads finished embed and dictionary stages, and splits the items as the training did.

    The dictionary is the one of the texts, also where the codes of the model hold those of another as well.
    Raises StageError when the manifest does not say how the dictionary was trained.
    """
    config, seed = _training_settings(read_manifest(dictionary_folder).config, dictionary_folder)
    vectors = load_embeddings(embedded)
    seed = seed if config.seed is None else config.seed
    split = split_for_training(vectors, config.held_out_share, seed)
    dictionary = read_dictionary(dictionary_folder)
    stability = read_stability(dictionary_folder)
    if stability is not None:  # latents of a second dictionary come after those of the texts
        stability = stability[: dictionary.width]
    return CodedItems(
        dictionary,
        vectors,
        split.train,
        split.choosing,
        split.held_out,
        seed,
        trained_here=config.source is None,
        stability=None if stability is None or np.isnan(stability).any() else stability,
    )


def _training_settings(recorded: dict[str, Any], folder: Path) -> tuple[DictionaryConfig, int]:
    try:
        settings, seed = recorded["settings"][:2]
        return DictionaryConfig.model_validate(settings), int(seed)
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise StageError(
            f"The manifest of {folder} does not say how the dictionary was trained; run that stage again."
        ) from error
