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

from saerec_ray.backbone.cold import draw_cold_items
from saerec_ray.dictionary.sae import Dictionary, Floats, read_codes, read_dictionary
from saerec_ray.dictionary.samples import Samples, item_codes, load_samples
from saerec_ray.dictionary.split import split_for_training
from saerec_ray.dictionary.stability import read_stability
from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.errors import StageError
from saerec_ray.evaluation.codings import Coding, Features, codings, mean_active
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
    product_codes: csr_array | None = None
    """Codes of all items as the dictionary stage wrote them, (items, latents); None: those of their texts."""
    samples: Samples | None = None
    """The texts with the reviews that these codes were made with; None without reviews."""

    @cached_property
    def text_codes(self) -> csr_array:
        """Codes of the texts of all items, (items, latents): those that say how `vectors` are kept."""
        return self.dictionary.encode(self.vectors)

    @property
    def codes(self) -> csr_array:
        """Codes of all items as people meet them, (items, latents): with reviews, where there are any.

        The catalogue was named by these and the model ranks by them, so names and meanings are measured on them.
        """
        return self.text_codes if self.product_codes is None else self.product_codes

    def features(self, other: Coding) -> Features:
        """Features of all items to compare `codes` with: (items, features).

        A dictionary reads what `codes` were made of, with reviews; other codings have no mean of texts and read
        the item's own text.
        """
        if self.samples is None or not isinstance(other, Dictionary):
            return other.encode(self.vectors)
        return item_codes(other, self.samples)

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

    The dictionary is the one of the texts, also where the codes of the model hold those of another as well; of
    the codes, those of its latents are kept.
    Raises StageError when the manifest does not say how the dictionary was trained.
    """
    recorded = read_training_record(dictionary_folder)
    config = recorded.dictionary
    texts = load_embeddings(embedded)
    cold = recorded.cold_items(len(texts))
    samples = load_samples(embedded, cold)
    seed = recorded.split_seed
    split = split_for_training(texts, config.held_out_share, seed).without(cold)
    dictionary = read_dictionary(dictionary_folder)
    stability = read_stability(dictionary_folder)
    if stability is not None:  # latents of a second dictionary come after those of the texts
        stability = stability[: dictionary.width]
    return CodedItems(
        dictionary,
        texts,
        split.train,
        split.choosing,
        split.held_out,
        seed,
        trained_here=config.source is None,
        stability=None if stability is None or np.isnan(stability).any() else stability,
        product_codes=csr_array(read_codes(dictionary_folder)[:, : dictionary.width]),
        samples=samples if len(samples.vectors) > len(texts) else None,
    )


@dataclass(frozen=True)
class TrainingRecord:
    """What the manifest of a dictionary stage says of its training."""

    dictionary: DictionaryConfig
    seed: int
    cold: tuple[float, int] | None
    """Share and seed of the items that training was not to meet; None where all count."""

    @property
    def split_seed(self) -> int:
        """What items are split by, and the training begins from."""
        return self.seed if self.dictionary.seed is None else self.dictionary.seed

    def cold_items(self, items: int) -> list[int]:
        """Items of which nothing was learnt, and whose texts alone count, though people wrote about them."""
        if self.cold is None:
            return []
        marked: list[int] = np.flatnonzero(draw_cold_items(items, *self.cold)).tolist()
        return marked


def read_training_record(folder: Path) -> TrainingRecord:
    """Reads from a dictionary stage how it was trained. Raises StageError when its manifest does not say so."""
    recorded: dict[str, Any] = read_manifest(folder).config
    try:
        settings, seed, *cold = recorded["settings"]
        drawn = (float(cold[0]), int(cold[1])) if cold else None
        return TrainingRecord(DictionaryConfig.model_validate(settings), int(seed), drawn)
    except (KeyError, IndexError, TypeError, ValueError, ValidationError) as error:
        raise StageError(
            f"The manifest of {folder} does not say how the dictionary was trained; run that stage again."
        ) from error
