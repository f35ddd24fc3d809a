"""What a history may hold: the items of the catalogue, and after them items of other domains.

A foreign item is read as a cold item of a history: e = D z, without residual, bias and companions. It is never ranked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array, vstack

from saerec_ray.scoring import Floats, ItemSpace


def history_space(space: ItemSpace, foreign: Sequence[csr_array]) -> ItemSpace:
    """The space in which histories are read: item i of the catalogue stays i, foreign items follow in order.

    `foreign`: codes of foreign items, (items, intents) each. The companions lead from every item that a history may
    hold to those of the catalogue, (all items, catalogue), so that strengths fit the scores of the catalogue. Scores
    are computed in `space`, never here. Raises ValueError when foreign codes have another number of intents.
    """
    added = sum(int(codes.shape[0]) for codes in foreign)
    for codes in foreign:
        if codes.shape[1] != space.intent_count:
            raise ValueError(f"foreign items have {codes.shape[1]} intents instead of {space.intent_count}")
    home = space.item_count
    companions = space.companions
    if companions is None:
        companions = csr_array((home, home), dtype=np.float32)

    def longer(values: Floats) -> Floats:
        return np.concatenate([values, np.zeros((added, *values.shape[1:]), dtype=values.dtype)])

    return ItemSpace(
        codes=csr_array(vstack([space.codes, *foreign], format="csr", dtype=np.float32)),
        intent_vectors=space.intent_vectors,
        residuals=longer(space.residuals),
        biases=longer(space.biases),
        popularity=longer(space.popularity),
        prior_weight=space.prior_weight,
        companions=csr_array(
            vstack([companions, csr_array((added, home), dtype=np.float32)], format="csr", dtype=np.float32)
        ),
        companion_weight=space.companion_weight,
    )
