"""What the evaluate stage measures: the finished stages of a run, each read when it is first needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from saerec_ray.backbone.build import read_model
from saerec_ray.backbone.cold import read_cold_items
from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.backbone.frozen import Frozen
from saerec_ray.backbone.validation import EncodedUsers, HeldOut, held_out
from saerec_ray.config import TrainConfig
from saerec_ray.data.prepared import PreparedItems, PreparedSequences, read_items, read_sequences
from saerec_ray.evaluation.coded_items import CodedItems, read_coded_items
from saerec_ray.evaluation.cooccurrence_items import CooccurrenceItems, read_cooccurrence_items
from saerec_ray.evaluation.intents_part import Encode
from saerec_ray.evaluation.transfer_part import OtherDomains
from saerec_ray.evaluation.users_in_turn import sampled_users
from saerec_ray.evaluation_settings import EvaluateConfig
from saerec_ray.intents.catalogue import Catalogue, read_catalogue
from saerec_ray.intents.language_model import LanguageModel
from saerec_ray.intents.population import Population, measure_population
from saerec_ray.intents.stage import item_categories, read_population
from saerec_ray.scoring import ItemSpace
from saerec_ray.text.embed import load_embeddings


@dataclass(frozen=True)
class Subject:
    """A finished run."""

    config: EvaluateConfig
    train: TrainConfig
    seed: int
    prepared: Path
    intents: Path
    trained: Path
    embedded: Path
    dictionary: Path
    encode: Encode
    """Turns texts into unit vectors with the model of the embed stage."""
    language_model: LanguageModel | None = None
    """Judges names, where there is one."""
    others: OtherDomains | None = None
    """Finished runs of other domains, where there are any."""

    @cached_property
    def sequences(self) -> PreparedSequences:
        """All interactions."""
        return read_sequences(self.prepared)

    @cached_property
    def items(self) -> PreparedItems:
        """The catalogue."""
        return read_items(self.prepared)

    @cached_property
    def model(self) -> tuple[ItemSpace, UserEncoder, Frozen]:
        """The model with intents."""
        return read_model(self.trained, self.train)

    @cached_property
    def test_cases(self) -> HeldOut:
        """The users of the test split with what is to be found."""
        return held_out(self.sequences, "test")

    def test_users(self, count: int) -> EncodedUsers | None:
        """At most `count` random users of the test split, encoded; None where nothing was held out.

        The same seed and count give the same users whatever else is measured.
        """
        return sampled_users(self.model[1], self.test_cases, count, self.seed)

    @cached_property
    def interactions(self) -> npt.NDArray[np.float64]:
        """Training interactions of each item: (items,)."""
        _, met = self.sequences.train_interactions()
        return np.bincount(met, minlength=self.model[0].item_count).astype(np.float64)

    @cached_property
    def vectors(self) -> npt.NDArray[np.float32]:
        """Unit text embeddings of the items: (items, d)."""
        return load_embeddings(self.embedded)

    @cached_property
    def cold(self) -> npt.NDArray[np.bool_] | None:
        """Which items training never met because of train.cold_share, (items,); None where it met all."""
        return read_cold_items(self.trained)

    @cached_property
    def coded(self) -> CodedItems:
        """The dictionary of the texts, with the vectors it reads."""
        return read_coded_items(self.embedded, self.dictionary)

    @cached_property
    def cooccurrence(self) -> CooccurrenceItems | None:
        """The dictionary of what people take together, with the vectors it reads; None where there is none."""
        return read_cooccurrence_items(self.sequences, self.dictionary)

    @cached_property
    def catalogue(self) -> Catalogue:
        """Names and attributes of the intents."""
        return read_catalogue(self.intents)

    @cached_property
    def published(self) -> npt.NDArray[np.bool_]:
        """Which intents people see: (intents,)."""
        named = np.zeros(self.model[0].intent_count, dtype=bool)
        named[[intent.latent for intent in self.catalogue.intents if intent.published]] = True
        return named

    @cached_property
    def population(self) -> Population:
        """The population as it is served; measured again where a control run trains on other codes."""
        if not self.train.shuffle_codes:
            return read_population(self.intents)
        users, met = self.sequences.train_interactions()
        return measure_population(self.model[2].codes, users, met, item_categories(self.items))
