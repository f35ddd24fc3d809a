"""The items as the dictionary of co-occurrence sees them. No stage keeps its vectors, so they are made again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.backbone.cold import draw_cold_items, without_cold
from saerec_ray.data.prepared import PreparedSequences
from saerec_ray.dictionary.concatenated import read_dictionaries, spread
from saerec_ray.dictionary.cooccurrence import item_vectors
from saerec_ray.dictionary.sae import read_codes
from saerec_ray.dictionary.split import split_for_training
from saerec_ray.dictionary.stability import read_stability
from saerec_ray.evaluation.coded_items import CodedItems, read_training_record
from saerec_ray.intents.catalogue import Catalogue

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CooccurrenceItems:
    """The second dictionary with its vectors, of the items that enough people met."""

    coded: CodedItems
    """Of these items alone, in the order of `rows`."""
    rows: Indices  # (known,) ascending
    items: int
    """How many there are with and without a vector."""
    first: int
    """Number of the first latent in the codes of the model and in the catalogue."""
    agreement: float
    """Share of the items with a vector that get the latents they have in the model. Another machine may round so that
    the vectors differ; then figures on vectors are of slightly others than those of the training."""

    def of_all_items(self, codes: csr_array) -> csr_array:
        """Codes of the items with a vector as those of all, (items, latents); the others have none."""
        return spread(codes, self.rows, self.items)

    def own_intents(self, catalogue: Catalogue) -> Catalogue:
        """The intents of this dictionary, numbered from 0."""
        own = [
            each.model_copy(update={"latent": each.latent - self.first})
            for each in catalogue.intents
            if self.first <= each.latent < self.first + self.coded.dictionary.width
        ]
        return catalogue.model_copy(update={"intents": own})


def read_cooccurrence_items(sequences: PreparedSequences, folder: Path) -> CooccurrenceItems | None:
    """Reads a finished dictionary stage, and splits the items as its training did; None without a second dictionary.

    Raises StageError when the manifest does not say how the dictionaries were trained.
    """
    dictionaries = read_dictionaries(folder)
    dictionary = dictionaries.cooccurrence
    record = read_training_record(folder)
    if dictionary is None or record.dictionary.cooccurrence is None:
        return None
    codes = read_codes(folder)
    items, first = codes.shape[0], dictionaries.text.width
    if record.cold is not None:
        sequences = without_cold(sequences, draw_cold_items(items, *record.cold))
    found = item_vectors(record.dictionary.cooccurrence, sequences, items, record.split_seed)
    split = split_for_training(found.vectors, record.dictionary.held_out_share, record.split_seed)
    stability = read_stability(folder)
    if stability is not None:
        stability = stability[first : first + dictionary.width]
    coded = CodedItems(
        dictionary,
        found.vectors,
        split.train,
        split.choosing,
        split.held_out,
        record.split_seed,
        stability=None if stability is None or np.isnan(stability).any() else stability,
        product_codes=csr_array(codes[found.rows][:, first : first + dictionary.width]),
    )
    return CooccurrenceItems(coded, found.rows, items, first, _agreement(coded.codes, coded.text_codes))


def _agreement(kept: csr_array, made_again: csr_array) -> float:
    """Share of rows that are active in the same places."""
    differing = ((kept > 0) != (made_again > 0)).sum(axis=1)
    return float((np.asarray(differing).ravel() == 0).mean())
