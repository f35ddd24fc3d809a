"""Finding intents by words, by meaning or by example items; no gRPC."""

from __future__ import annotations

import logging
import math
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from scipy.sparse import csr_array

from saerec_ray.bundle import Bundle
from saerec_ray.config import EmbedConfig
from saerec_ray.errors import InputError
from saerec_ray.scoring import Floats

logger = logging.getLogger(__name__)

Match = tuple[int, float]
"""An intent and how well it matches, in (0, 1]."""
Embed = Callable[[str], Floats]
"""A text to its unit vector, (d_text,)."""

_WORD = re.compile(r"\w+")


class TextIndex:
    """Words of labels and terms, weighted by rarity; cosine of the query with each intent."""

    def __init__(self, documents: dict[int, str]) -> None:
        """`documents` maps intents to their label and terms."""
        counts = {intent: Counter(_words(text)) for intent, text in documents.items()}
        frequency = Counter(word for words in counts.values() for word in words)
        self._rarity = {word: math.log(1 + len(counts) / seen) for word, seen in frequency.items()}
        self._postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for intent, words in counts.items():
            weights = {word: (1 + math.log(count)) * self._rarity[word] for word, count in words.items()}
            norm = math.sqrt(sum(weight**2 for weight in weights.values()))
            for word, weight in weights.items():
                self._postings[word].append((intent, weight / norm))

    def search(self, text: str) -> dict[int, float]:
        """Intents that share a word with the text, and the cosine in (0, 1]."""
        # A word of the query that no intent has counts as the rarest one does: it lowers every score.
        unknown = max(self._rarity.values(), default=1.0)
        weights = {
            word: (1 + math.log(count)) * self._rarity.get(word, unknown)
            for word, count in Counter(_words(text)).items()
        }
        norm = math.sqrt(sum(weight**2 for weight in weights.values()))
        scores: dict[int, float] = defaultdict(float)
        for word, weight in weights.items():
            for intent, loading in self._postings.get(word, ()):
                scores[intent] += weight / norm * loading
        return {intent: min(score, 1.0) for intent, score in scores.items()}


class IntentSearch:
    """Searches the published intents of one bundle."""

    def __init__(self, bundle: Bundle, codes: csr_array | None = None, embed: Embed | None = None) -> None:
        """`codes`: of the items that may be examples, (items, intents), where these are not those of the bundle.

        `embed` replaces the language model of the bundle's configuration.
        """
        self._codes = bundle.space.codes if codes is None else codes
        self._label_vectors = bundle.label_vectors
        self._published = np.array(
            [intent.latent for intent in bundle.catalogue.intents if intent.published], dtype=np.int64
        )
        self._text = TextIndex(
            {
                intent.latent: " ".join([intent.label, *intent.terms])
                for intent in bundle.catalogue.intents
                if intent.published
            }
        )
        carriers = np.diff(bundle.space.postings.indptr)
        self._rarity = np.log((bundle.space.item_count + 1) / (carriers + 1)).astype(np.float32)
        self._embed = embed or LazyEmbedder(bundle.config.embed, bundle.label_vectors.shape[1])

    def by_text(self, text: str, count: int) -> list[Match]:
        """Intents that share words with the text come first, in the upper half of the scores.

        The others follow by the cosine of their label's embedding with that of the text.
        """
        lexical = {intent: 0.5 + 0.5 * score for intent, score in self._text.search(text).items()}
        semantic: dict[int, float] = {}
        if len(lexical) < count:
            vector = self._embed(text)
            if len(vector):
                cosines = np.clip(self._label_vectors[self._published] @ vector, 0.0, 1.0)
                semantic = {
                    int(intent): 0.5 * float(cosine)
                    for intent, cosine in zip(self._published, cosines, strict=True)
                    if cosine > 0
                }
        return _best({**semantic, **lexical}, count)

    def by_items(self, items: Sequence[int], count: int) -> list[Match]:
        """Intents of the items' mean code, weighted by rarity, relative to the strongest possible match."""
        if len(items) == 0:
            return []
        mean = np.asarray(self._codes[list(items)].mean(axis=0), dtype=np.float64).ravel()
        weights = mean * self._rarity
        norm = float(np.linalg.norm(weights))
        if norm == 0:
            return []
        found = {int(intent): min(1.0, float(weights[intent]) / norm) for intent in self._published}
        return _best({intent: score for intent, score in found.items() if score > 0}, count)


class LazyEmbedder:
    """The language model of a bundle: loaded at the first use, once; without it there is no vector."""

    def __init__(self, settings: EmbedConfig, width: int) -> None:
        """`width` is the length of the vectors to compare with."""
        self._settings = settings
        self._width = width
        self._lock = threading.Lock()
        self._loaded: Embed | None = None

    def __call__(self, text: str) -> Floats:
        """The unit vector of a text, (width,), or an empty one when the model cannot be used."""
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded(text)

    def _load(self) -> Embed:
        try:
            # Imported here: the language model is large and most servers never search by text.
            from saerec_ray.text.encoder import TextEncoder

            settings = self._settings
            encoder = TextEncoder(settings.model, settings.precision, settings.max_tokens)
        except (InputError, ImportError) as error:
            logger.warning("intents are searched by words alone: no language model: %s", error)
            return _no_vector
        if encoder.dimension != self._width:
            logger.warning(
                "intents are searched by words alone: the language model has %d dimensions, the labels %d",
                encoder.dimension,
                self._width,
            )
            return _no_vector

        def embed(text: str) -> Floats:
            return np.asarray(encoder.encode([text], batch_size=1)[0])

        return embed


def _no_vector(_text: str) -> Floats:
    return np.empty(0, dtype=np.float32)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _best(scores: dict[int, float], count: int) -> list[Match]:
    return sorted(scores.items(), key=lambda match: (-match[1], match[0]))[:count]
