"""A catalogue whose intents are known: every topic has words and items of its own, and one latent."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.config import IntentsConfig
from saerec_ray.data.prepared import PreparedItems
from saerec_ray.intents.build import Results, build_catalogue
from saerec_ray.intents.catalogue import Catalogue, stable_ids
from saerec_ray.intents.population import Population, measure_population

Floats = npt.NDArray[np.float32]

DIMENSION = 96
TOPICS = {
    "nail polish": "lacquer glossy manicure",
    "shaving razor": "blade beard foam",
    "rose perfume": "scent floral bottle",
    "hair dryer": "curls heat blower",
    "lip balm": "chapped wax mint",
    "makeup brush": "bristles powder foundation",
}
FILLER = [
    "daily",
    "family",
    "travel",
    "classic",
    "pocket",
    "deluxe",
    "original",
    "gentle",
    "extra",
    "value",
    "mini",
]


def topic_words(topic: int) -> str:
    """Everything there is to say of a topic: the best label an intent of it can have."""
    name = list(TOPICS)[topic]
    return f"{name} {TOPICS[name]}"


@cache
def word_vector(word: str) -> Floats:
    return np.random.default_rng(zlib.crc32(word.encode())).normal(size=DIMENSION).astype(np.float32)


def encode(texts: list[str]) -> Floats:
    """Unit vectors of texts, the normalised sum of a random vector a word: texts that share words are close."""
    if not texts:
        return np.empty((0, DIMENSION), dtype=np.float32)
    rows = [
        np.sum([word_vector(word) for word in re.findall(r"\w+", text.lower())] or [word_vector("")], axis=0)
        for text in texts
    ]
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


@dataclass(frozen=True)
class Planted:
    """Latent t is topic t, in the order of TOPICS; further latents are noise, the last one is never active."""

    items: PreparedItems
    codes: csr_array
    embeddings: Floats
    decoder: Floats
    mean: Floats
    population: Population

    def build(
        self, config: IntentsConfig | None = None, seed: int = 5, **more: Any
    ) -> tuple[Catalogue, Floats, dict[str, Any]]:
        results = self.results(config, seed, **more)
        return results.catalogue, results.label_vectors, results.summary

    def results(self, config: IntentsConfig | None = None, seed: int = 5, **more: Any) -> Results:
        return build_catalogue(
            config or IntentsConfig(),
            stable_ids(self.decoder),
            self.items,
            self.codes,
            self.embeddings,
            self.decoder,
            self.mean,
            self.population,
            encode,
            seed,
            **more,
        )


def plant(
    items_a_topic: int = 60,
    seed: int = 0,
    noise_latents: int = 2,
    attributes: bool = True,
    scattered: bool = False,
) -> Planted:
    """`items_a_topic` items of every topic, and three times as many in all that belong to none.

    `scattered`: every item says only two words of its topic, so that no phrase finds all items of the topic.
    """
    rng = np.random.default_rng(seed)
    topics = list(TOPICS)
    texts, topic_of = [], []
    for place in range(items_a_topic * len(topics) + 3 * items_a_topic):
        topic = place // items_a_topic if place < items_a_topic * len(topics) else -1
        words = list(rng.choice(FILLER, 3, replace=False))
        if topic >= 0 and scattered:
            words = words[:1] + list(rng.choice(topic_words(topic).split(), 2, replace=False))
        elif topic >= 0:
            words += [topics[topic], *rng.choice(TOPICS[topics[topic]].split(), 2, replace=False)]
        rng.shuffle(words)
        texts.append(", ".join(words))
        topic_of.append(topic)
    order = rng.permutation(len(texts))
    texts = [texts[place] for place in order]
    belongs = np.array(topic_of)[order]
    active = np.zeros((len(texts), len(topics) + noise_latents + 1), dtype=bool)
    active[np.flatnonzero(belongs >= 0), belongs[belongs >= 0]] = True
    active[:, len(topics) : -1] = rng.random((len(texts), noise_latents)) < 0.1
    codes = csr_array((active * rng.gamma(4.0, 0.25, size=active.shape)).astype(np.float32))
    embeddings = encode(texts)
    mean = embeddings.mean(axis=0)
    decoder = rng.normal(size=(active.shape[1], DIMENSION)).astype(np.float32)
    for topic in range(len(topics)):
        decoder[topic] = embeddings[belongs == topic].mean(axis=0) - mean
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    categories = [[topics[topic].title()] if topic >= 0 else ["Other"] for topic in belongs]
    prepared = PreparedItems(
        ids=[f"item-{place:04d}" for place in range(len(texts))],
        titles=texts,
        texts=texts,
        attributes=[{"category": category} if attributes else {} for category in categories],
    )
    users = np.repeat(np.arange(50), 10)
    met = rng.integers(len(texts), size=len(users)).astype(np.int32)
    population = measure_population(codes, users, met, categories if attributes else [[] for _ in texts])
    return Planted(prepared, codes, embeddings, decoder, mean, population)
