"""The control of names: random directions, named from the same texts and held to the same gates as what was learnt."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from scipy.sparse import csr_array

from saerec_ray.config import IntentsConfig
from saerec_ray.data.prepared import PreparedItems
from saerec_ray.errors import StageError
from saerec_ray.evaluation.label_detection import label_detection
from saerec_ray.intents.build import build_catalogue
from saerec_ray.intents.catalogue import Catalogue, Intent
from saerec_ray.intents.phrases import Encode
from saerec_ray.intents.population import Population
from saerec_ray.manifest import read_manifest

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

_DECIDED_ELSEWHERE = dict.fromkeys(("language_model", "previous", "overlay", "policy"))


@dataclass(frozen=True)
class NamedCodes:
    """Latents and their names."""

    catalogue: Catalogue
    codes: csr_array  # of all items: (items, latents)

    @property
    def own(self) -> list[Intent]:
        """The intents of these latents; those of other dictionaries come after them."""
        return [each for each in self.catalogue.intents if each.latent < self.codes.shape[1]]

    @property
    def published(self) -> npt.NDArray[np.bool_]:
        """Which latents have a published name: (latents,)."""
        named = np.zeros(self.codes.shape[1], dtype=bool)
        named[[each.latent for each in self.own if each.published]] = True
        return named

    @property
    def judged(self) -> int:
        """How many latents have a name with an AUC, published or not."""
        return sum(each.detection_auc is not None for each in self.own)


@dataclass(frozen=True)
class Naming:
    """How the intents stage named latents, without what a language model, people and policy did to the names."""

    settings: IntentsConfig
    seed: int
    encode: Encode
    """Turns texts into unit vectors of the model that the embeddings are of."""

    def name(
        self, codes: csr_array, directions: Floats, mean: Floats, embeddings: Floats, items: PreparedItems
    ) -> NamedCodes:
        """Names latents and decides which would be published.

        `codes`: (items, latents); `directions`: where the texts of each latent lie, unit rows, (latents, d), seen
        from `mean`, (d,); `embeddings`: unit rows, (items, d).
        """
        nobody = Population(0, 0.0, **dict.fromkeys(_PER_INTENT, np.zeros(codes.shape[1], dtype=np.float32)))
        ids = [f"int-{latent:08x}" for latent in range(codes.shape[1])]
        results = build_catalogue(
            self.settings, ids, items, codes, embeddings, directions, mean, nobody, self.encode, self.seed
        )
        return NamedCodes(results.catalogue, codes)

    def detection(self, named: NamedCodes, embeddings: Floats) -> dict[str, Any]:
        """How well published names find their items, see label_detection. `embeddings`: unit rows, (items, d)."""
        gate = self.settings.min_detection_auc
        return label_detection(named.catalogue, named.codes, embeddings, self.encode, self.seed, gate)


_PER_INTENT = [field.name for field in fields(Population) if field.type == "Floats"]
"""Statistics of who takes the items. Names do not depend on them."""


def read_naming(folder: Path, encode: Encode) -> Naming:
    """Reads from an intents stage how it named. Raises StageError when its manifest does not say so."""
    manifest = read_manifest(folder)
    try:
        settings = IntentsConfig.model_validate({**manifest.config["settings"][0], **_DECIDED_ELSEWHERE})
    except (KeyError, TypeError, IndexError, ValidationError) as error:
        raise StageError(
            f"The manifest of {folder} does not say how intents were named; run that stage again."
        ) from error
    return Naming(settings, manifest.seed, encode)


def drawn_latents(latents: int, count: int, seed: int) -> Indices:
    """At most `count` of the latents of a control, drawn by the seed, ascending: naming all would take too long."""
    return np.sort(np.random.default_rng(seed).permutation(latents)[:count]).astype(np.int64)


def beside_random(
    own: NamedCodes, control: NamedCodes, of_latents: int, embeddings: Floats, naming: Naming
) -> dict[str, Any]:
    """How good the names of a control are; of `own`, how many there are to compare them with.

    `of_latents`: how many latents the control has, from which its own were drawn; `embeddings`: (items, d).
    """
    return {
        "of_latents": of_latents,
        "judged_names": {"dictionary": own.judged, "random_dictionary": control.judged},
        "detection": naming.detection(control, embeddings),
    }
