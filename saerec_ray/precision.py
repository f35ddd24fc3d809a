"""Which floating-point format a device computes products fastest in."""

from __future__ import annotations

from pathlib import Path

_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}


def chosen_precision(wanted: str, device: str) -> str:
    """float32 or bfloat16; `auto` takes bfloat16 on GPUs and on CPUs that compute with it."""
    if wanted != "auto":
        return wanted
    return "bfloat16" if device.startswith("cuda") or _cpu_has_bfloat16() else "float32"


def _cpu_has_bfloat16() -> bool:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return False
    return any(
        _BFLOAT16_FLAGS & set(line.split(":", 1)[1].split())
        for line in text.splitlines()
        if line.startswith("flags")
    )
