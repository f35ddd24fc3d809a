"""The training of a dictionary on workers that measure different errors; they import it by name."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any
from unittest import mock

from saerec_ray.dictionary import trainer
from saerec_ray.worker import Worker


def train_unevenly(worker: Worker, parameters: dict[str, Any]) -> None:
    """Trains as always, but all workers except the first measure `errors`, the last of them again and again.

    Parameters besides those of train_dictionary: `errors`, and `told` (a folder in which each worker leaves the epoch
    it ended after and how often it found no gain).
    """
    runs = []

    class Watched(trainer.DictionaryTraining):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            runs.append(self)

    errors = itertools.chain(parameters["errors"], itertools.repeat(parameters["errors"][-1]))
    with mock.patch.object(trainer, "DictionaryTraining", Watched):
        if worker.rank == 0:
            trainer.train_dictionary(worker, parameters)
        else:
            with mock.patch.object(trainer, "fraction_of_variance_unexplained", side_effect=errors):
                trainer.train_dictionary(worker, parameters)
    ended = {"epoch": runs[0].epoch, "without_gain": runs[0].evaluations_without_gain}
    (Path(parameters["told"]) / f"{worker.rank}.json").write_text(json.dumps(ended), "utf-8")
