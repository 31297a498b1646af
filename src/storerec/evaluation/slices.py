"""Slices of users by how often their target item occurs in training: where quality comes from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SLICES: tuple[tuple[str, int, float], ...] = (
    ("never", 0, 0),
    ("1-5", 1, 5),
    ("6-20", 6, 20),
    ("more than 20", 21, float("inf")),
)
"""Name, least and most training events of the target item; every count falls into exactly one."""


def slice_users(targets: np.ndarray, item_counts: np.ndarray) -> dict[str, NDArray[np.int64]]:
    """User numbers of each slice, ascending; slices may be empty, and together they hold every user once.

    Takes targets (users,) int catalogue rows and item_counts (n_items,) int training events per item.
    """
    seen = item_counts[targets]
    return {name: np.flatnonzero((seen >= least) & (seen <= most)) for name, least, most in SLICES}
