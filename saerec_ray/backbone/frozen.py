"""What stays fixed while the backbone trains: codes, decoder, prior, popularity."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_array

from saerec_ray.backbone.companions import without_items
from saerec_ray.intents.population import Population
from saerec_ray.scoring import PriorTable

Floats = npt.NDArray[np.float32]

FROZEN_FILE = "frozen.safetensors"


@dataclass(frozen=True)
class Frozen:
    """Fixed inputs of the backbone; without intents the codes are empty and one latent wide."""

    codes: csr_array  # (items, intents)
    decoder: Floats  # unit directions: (intents, d_text), or block-diagonal with those of co-occurrence
    prior: PriorTable
    popularity: Floats  # log(1 + training interactions): (items,)
    companions: csr_array  # C, with new items by their texts: (items, items); empty without companions


def prior_table(population: Population, public_share: float) -> PriorTable:
    """The prior's frozen part: IDF = log((users + 1) / (df + 1)), public = share x evenness, normalised."""
    public = population.shares * population.evenness
    norm = float(np.linalg.norm(public))
    frequency = np.log((population.users + 1) / (population.user_counts + 1))
    return PriorTable(
        inverse_document_frequency=frequency.astype(np.float32),
        public=(public / norm if norm > 0 else public).astype(np.float32),
        public_share=public_share,
    )


def write_frozen(frozen: Frozen, folder: Path) -> None:
    """Writes the frozen side for the workers."""
    arrays = {
        "offsets": frozen.codes.indptr.astype(np.int64),
        "latents": frozen.codes.indices.astype(np.int32),
        "values": frozen.codes.data,
        "decoder": frozen.decoder,
        "inverse_document_frequency": frozen.prior.inverse_document_frequency,
        "public": frozen.prior.public,
        "public_share": np.array([frozen.prior.public_share], dtype=np.float64),
        "popularity": frozen.popularity,
        "companion_offsets": frozen.companions.indptr.astype(np.int64),
        "companion_items": frozen.companions.indices.astype(np.int32),
        "companion_rates": frozen.companions.data,
    }
    save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, folder / FROZEN_FILE)


def read_frozen(folder: Path, intents: bool) -> Frozen:
    """Reads the frozen side; without intents only popularity and companions of the items remain."""
    arrays = load_file(folder / FROZEN_FILE)
    frozen = Frozen(
        codes=csr_array(
            (arrays["values"], arrays["latents"], arrays["offsets"]),
            shape=(len(arrays["offsets"]) - 1, len(arrays["decoder"])),
        ),
        decoder=arrays["decoder"],
        prior=PriorTable(
            arrays["inverse_document_frequency"], arrays["public"], float(arrays["public_share"][0])
        ),
        popularity=arrays["popularity"],
        companions=csr_array(
            (arrays["companion_rates"], arrays["companion_items"], arrays["companion_offsets"]),
            shape=(len(arrays["popularity"]), len(arrays["popularity"])),
        ),
    )
    return frozen if intents else without_intents(frozen)


def without_intents(frozen: Frozen) -> Frozen:
    """The same catalogue with one latent that no item carries, and nothing of texts: the plain backbone's side."""
    items = len(frozen.popularity)
    nothing = np.zeros(1, dtype=np.float32)
    return Frozen(
        codes=csr_array((items, 1), dtype=np.float32),
        decoder=np.zeros((1, 1), dtype=np.float32),
        prior=PriorTable(nothing, nothing, 0.0),
        popularity=frozen.popularity,
        companions=without_items(frozen.companions, frozen.popularity == 0),
    )
