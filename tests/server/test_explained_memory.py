"""What an explained page needs in memory does not grow with the number of intents it names."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np

from saerec_server.registry import load_model
from tests.synthetic import write_synthetic_bundle

ITEMS = 4_000


def test_explaining_holds_few_arrays_as_long_as_the_catalogue(tmp_path: Path) -> None:
    ranker = load_model(write_synthetic_bundle(tmp_path / "bundle", items=ITEMS, intents=400)).ranker
    ranking = ranker.rank(ranker.user([3, 5, 8]), [], np.ones(ITEMS, dtype=bool), 200)
    named = {reason.intent for why in ranker.explain(ranking) for reason in why.intents}
    assert len(named) > 200
    tracemalloc.start()
    try:
        ranker.explain(ranking)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    scores = ITEMS * np.dtype(np.float32).itemsize
    assert most < 60 * scores, most / scores
