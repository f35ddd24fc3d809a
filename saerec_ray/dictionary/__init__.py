"""The dictionary: sparse autoencoder kinds, trainer, metrics.

Usable without the rest: `from saerec_ray.dictionary import fit, encode, save, load`. Training needs torch;
encoding needs numpy and scipy alone, so each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saerec_ray.dictionary.encoding import encode, load, save
    from saerec_ray.dictionary.fitting import fit
    from saerec_ray.dictionary.sae import Dictionary

__all__ = ["Dictionary", "encode", "fit", "load", "save"]

_MODULES = {
    "Dictionary": "sae",
    "encode": "encoding",
    "fit": "fitting",
    "load": "encoding",
    "save": "encoding",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
