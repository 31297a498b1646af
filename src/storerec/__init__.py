"""Semantic-ID generative recommendation with one language model (STORE, arXiv 2409.07276).

The public names load on first use: importing storerec costs next to nothing, torch comes with ``STORE``.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from storerec._version import __version__

if "RANK" in os.environ:
    # one of several processes that train: torch would warn in each that a step left no weight out, which it may well do
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

if TYPE_CHECKING:
    from storerec.config import RunOptions
    from storerec.data import Catalogue, Histories, Split, leave_one_out, read_events, read_items, split_users
    from storerec.errors import (
        BackboneError,
        BundleError,
        ConfigError,
        DataError,
        EndpointError,
        FetchError,
        ItemError,
        MissingExtraError,
        RowError,
        StorerecError,
        StorerecWarning,
        TrainingError,
    )
    from storerec.pipeline import STORE, StoreConfig

__all__ = [
    "STORE",
    "BackboneError",
    "BundleError",
    "Catalogue",
    "ConfigError",
    "DataError",
    "EndpointError",
    "FetchError",
    "Histories",
    "ItemError",
    "MissingExtraError",
    "RowError",
    "RunOptions",
    "Split",
    "StoreConfig",
    "StorerecError",
    "StorerecWarning",
    "TrainingError",
    "__version__",
    "leave_one_out",
    "read_events",
    "read_items",
    "split_users",
]

_HOMES = {
    "storerec.config": ("RunOptions",),
    "storerec.data": (
        *("Catalogue", "Histories", "Split", "leave_one_out", "read_events", "read_items", "split_users"),
    ),
    "storerec.errors": (
        *("BackboneError", "BundleError", "ConfigError", "DataError", "EndpointError", "FetchError"),
        *("ItemError", "MissingExtraError", "RowError", "StorerecError", "StorerecWarning", "TrainingError"),
    ),
    "storerec.pipeline": ("STORE", "StoreConfig"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'storerec' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value  # found at once the next time
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
