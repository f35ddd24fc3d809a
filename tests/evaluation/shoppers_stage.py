"""A finished dictionary stage with a second dictionary, of shoppers who each keep to one of four groups of items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from saerec_ray.backbone.cold import draw_cold_items, without_cold
from saerec_ray.config import ClusterConfig
from saerec_ray.data.prepared import PreparedItems, PreparedSequences
from saerec_ray.dictionary.cooccurrence_build import add_cooccurrence
from saerec_ray.dictionary.sae import Floats, unit_rows, write_codes, write_dictionary
from saerec_ray.dictionary_settings import DictionaryConfig
from tests.backbone.small_sets import sequences_of
from tests.dictionary.test_concatenated import TEXT, codes_of
from tests.dictionary.test_cooccurrence import GROUPS, ITEMS, shoppers
from tests.finished_stage import finish_stage

UNMET = 3
"""Items at the end that nobody takes."""
SECOND, SEED = 12, 3
CONFIG = DictionaryConfig.model_validate(
    {
        "width": 16,
        "active": 2,
        "batch_size": 16,
        "held_out_share": 0.2,
        "cooccurrence": {
            "dimensions": 6,
            "shift": 1.0,
            "min_interactions": 3,
            "width": SECOND,
            "active": 2,
            "epochs": 40,
        },
    }
)
TOPICS = ("lamps", "boots", "kites", "spoons")


def sequences() -> PreparedSequences:
    return sequences_of(shoppers())


def items() -> PreparedItems:
    """A group is a topic in titles and a category; what nobody takes is of the first."""
    topics = [TOPICS[min(item // (ITEMS // GROUPS), GROUPS - 1)] for item in range(ITEMS)] + [
        TOPICS[0]
    ] * UNMET
    texts = [f"{topic} number{place}" for place, topic in enumerate(topics)]
    ids = [f"item-{place}" for place in range(len(topics))]
    return PreparedItems(ids, texts, texts, [{"category": [topic]} for topic in topics])


def encode(texts: list[str]) -> Floats:
    """A text means the topics it names, and a little of itself."""
    rows = []
    for place, text in enumerate(texts):
        named = np.array([topic in text for topic in TOPICS] + [False] * 4, dtype=np.float32)
        rows.append(named + 0.1 * np.random.default_rng([len(text), place]).normal(size=8))
    return unit_rows(np.asarray(rows, dtype=np.float32).reshape(-1, 8))


def write_stage(folder: Path, cold: tuple[float, int] | None = None) -> dict[str, Any]:
    """Writes the stage and returns the figures of the second training. `cold`: share and seed of items kept out."""
    folder.mkdir()
    total = ITEMS + UNMET
    write_dictionary(TEXT, folder)
    write_codes(csr_array(codes_of(total, TEXT.width, 4)), folder)
    met = sequences()
    if cold is not None:
        met = without_cold(met, draw_cold_items(total, *cold))
    cluster = ClusterConfig(engine="local", gpus=False)
    figures = add_cooccurrence(CONFIG, cluster, SEED, met, folder, folder.parent / "runs")
    finish_stage(folder, {"settings": [CONFIG.model_dump(mode="json"), SEED, *(cold or ())]})
    return figures
