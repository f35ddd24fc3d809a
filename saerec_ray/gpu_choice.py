"""Whether a training uses GPUs: only when there is one for each of its workers."""

from __future__ import annotations

import functools
import logging

logger = logging.getLogger(__name__)


def enough_gpus(wanted: bool, gpus: int, workers: int) -> bool:
    """Whether so many workers use GPUs. Two on one GPU cannot talk to each other, and some on CPUs hold up the rest."""
    return wanted and gpus >= workers


def choose_gpus(wanted: bool, gpus: int, workers: int) -> bool:
    """The same, and where there are some GPUs but too few, a warning says so, once a process."""
    if wanted and 0 < gpus < workers:
        _say_too_few(gpus, workers)
    return enough_gpus(wanted, gpus, workers)


@functools.cache
def _say_too_few(gpus: int, workers: int) -> None:
    there = "1 GPU is" if gpus == 1 else f"{gpus} GPUs are"
    logger.warning(
        "%s too few for %d workers, which train on CPUs; set the number of workers to %d to train on GPUs.",
        there,
        workers,
        gpus,
    )
