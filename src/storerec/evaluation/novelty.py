"""What lists recommend, whether it is right or not: how surprising the items are and how far from the head."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HEAD_SHARE = 1 / 3
"""The head: the most popular items that together have this share of the training events (Cremonesi et al. 2010)."""


def self_information(item_counts: np.ndarray) -> NDArray[np.float64]:
    """-log2 p of each item in bits, p = (training events + 1) / (all training events + items).

    Zhou et al., "Solving the apparent diversity-accuracy dilemma of recommender systems", PNAS 2010, with counts of
    events for shares of users; the added one gives items never seen a finite value. (n_items,) to (n_items,).
    """
    return -np.log2((item_counts + 1) / (item_counts.sum() + len(item_counts)))


def long_tail(item_counts: np.ndarray) -> NDArray[np.bool_]:
    """Items outside the head, (n_items,) bool.

    The head is the least number of most popular items that together have a third of the training events, the
    "short head" of Cremonesi, Koren and Turrin, RecSys 2010; items equally popular go by row.
    """
    order = np.argsort(-item_counts, kind="stable")
    before = np.cumsum(item_counts[order]) - item_counts[order]
    tail = np.ones(len(item_counts), dtype=bool)
    tail[order] = before >= HEAD_SHARE * item_counts.sum()
    return tail


def list_means(items: np.ndarray, values: np.ndarray, k: int) -> float:
    """Mean over users of the mean value of the items in their first k places.

    Parameters
    ----------
    items
        (users, K) int catalogue rows, -1 for none; empty lists are left out.
    values
        (n_items,) a number or bool per item.
    k
        places.

    Returns
    -------
    The mean; nan when every list is empty.
    """
    top = items[:, :k]
    there = top >= 0
    sums = np.where(there, values[top], 0).sum(axis=1)
    counts = there.sum(axis=1)
    some = counts > 0
    return float((sums[some] / counts[some]).mean()) if some.any() else float("nan")
