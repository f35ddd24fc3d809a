"""What a training costs: wall-clock time and peak memory of a worker, kept over restarts."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

_STATUS = Path("/proc/self/status")
_FORGET_PEAK = Path("/proc/self/clear_refs")
_KIB = 1024


class TrainingCost:
    """Measures from when it is made."""

    def __init__(self, device: torch.device) -> None:
        """`device`: where the training computes; on a GPU its memory counts, else that of the process.

        Where the system does not let the peak be forgotten, that of the process counts from its beginning.
        """
        self._device = device
        self._earlier_seconds, self._earlier_peak = 0.0, 0
        self._started = time.perf_counter()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            with contextlib.suppress(
                OSError
            ):  # there is no such file but on Linux, and not in every container
                _FORGET_PEAK.write_text("5")

    def as_dict(self, samples: int) -> dict[str, Any]:
        """For a checkpoint; `samples`: how many the whole training has gone through."""
        return {
            "seconds": self._earlier_seconds + time.perf_counter() - self._started,
            "samples": samples,
            "peak_memory_bytes": max(self._earlier_peak, self._peak()),
        }

    def restore(self, numbers: Mapping[str, Any]) -> None:
        """Goes on from what a checkpoint holds; one without these numbers cost nothing."""
        self._earlier_seconds = float(numbers.get("seconds", 0.0))
        self._earlier_peak = int(numbers.get("peak_memory_bytes", 0))

    def _peak(self) -> int:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        with contextlib.suppress(OSError):  # as above
            for line in _STATUS.read_text("utf-8").splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * _KIB
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * _KIB


def cost_figures(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """For a manifest, from what checkpoints of trainings hold: seconds of all, speed, and the largest peak.

    A training with several workers counts as its first; one GPU or process is meant by the peak.
    """
    seconds = sum(float(each["seconds"]) for each in costs)
    return {
        "training_seconds": round(seconds, 2),
        "training_items_a_second": round(sum(int(each["samples"]) for each in costs) / max(seconds, 1e-9), 1),
        "training_peak_memory_bytes": max(int(each["peak_memory_bytes"]) for each in costs),
    }
