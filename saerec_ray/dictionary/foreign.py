"""Items of another domain, read with the dictionaries of a run: no training, and the latents keep their meaning.

The text goes through the dictionary of texts. An attribute latent is active when the item has its value, a phrase
latent when the text has its phrase, by the functions and weights that the run used for its own items. Latents of
co-occurrence stay zero: nobody took a foreign item together with one of the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, hstack

from saerec_ray.dictionary.adoption import recentred
from saerec_ray.dictionary.attributes import value_codes
from saerec_ray.dictionary.concatenated import Dictionaries
from saerec_ray.dictionary.followed_phrases import with_phrases
from saerec_ray.dictionary.sae import Floats
from saerec_ray.errors import InputError


@dataclass(frozen=True)
class ForeignReader:
    """What a run needs to read items it never saw."""

    dictionaries: Dictionaries
    attribute_weight: float = 1.0
    """Length of the attribute code of an item; see AttributesConfig."""
    phrases: Sequence[str] = ()
    """All followed phrases of the run, the surest first; those without a latent count for `most_phrases` too."""
    most_phrases: int = 0
    """How many of its phrases an item keeps, the surest first."""

    def codes(
        self,
        vectors: Floats,
        texts: Sequence[str],
        attributes: Sequence[Mapping[str, list[str]]],
        *,
        recentre: bool,
    ) -> csr_array:
        """The codes of foreign items as those of a cold item of the run: sparse float32 (items, latents).

        `vectors`: their text embeddings by the language model of the run, (items, d). With `recentre` they are
        centred on their own mean (see recentred), else on that of the run, as cold items of the run are. The scale of
        the codes stays that of the run. Raises InputError when the vectors have another length than the dictionary
        reads.
        """
        text = self.dictionaries.text
        expected = text.decoder.shape[1]
        if vectors.shape[1] != expected:
            raise InputError(
                f"The dictionary reads vectors of {expected} numbers, but the texts of the other domain have "
                f"{vectors.shape[1]}; embed them with the language model it was trained on."
            )
        learnt = (recentred(text, vectors) if recentre else text).encode(vectors)
        items = len(vectors)
        parts = [learnt, csr_array((items, self.dictionaries.learnt - text.width), dtype=np.float32)]
        if self.dictionaries.attributes:
            named = with_phrases(self.phrases, self.most_phrases, texts, attributes)
            parts.append(value_codes(self.dictionaries.attributes, self.attribute_weight, named))
        codes = csr_array(hstack(parts, format="csr", dtype=np.float32))
        codes.sort_indices()
        return codes


def learnt_alone(codes: csr_array, dictionaries: Dictionaries) -> csr_array:
    """The codes, (items, latents), without those of attributes and phrases."""
    kept = codes.indices < dictionaries.learnt
    offsets = np.concatenate([[0], np.cumsum(kept)])[codes.indptr]
    return csr_array((codes.data[kept], codes.indices[kept], offsets), shape=codes.shape)
