"""A baseline that knows texts and nothing else: items whose text is closest to what the user met."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from saerec_ray.backbone.validation import HeldOut, target_ranks

Floats = npt.NDArray[np.float32]

_USERS_AT_ONCE = 256


def text_neighbour_ranks(
    vectors: Floats, cases: HeldOut, history_vectors: Sequence[Floats] | None = None
) -> npt.NDArray[np.int64]:
    """Ranks of the targets by the cosine between an item's text and the mean of the history's texts.

    `vectors`: unit rows, (items, d). `history_vectors`, one (length, d) a case, stand in for the vectors of
    the case's own history, where that lies in another catalogue.
    """

    def batches() -> Iterator[tuple[int, Floats]]:
        for start in range(0, len(cases), _USERS_AT_ONCE):
            stop = min(start + _USERS_AT_ONCE, len(cases))
            means = [
                (vectors[cases.histories[case]] if history_vectors is None else history_vectors[case]).mean(
                    axis=0
                )
                for case in range(start, stop)
            ]
            yield start, np.asarray(np.stack(means) @ vectors.T, dtype=np.float32)

    return target_ranks(cases, batches)
