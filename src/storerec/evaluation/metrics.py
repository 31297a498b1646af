"""Ranks of targets in lists, and the metrics made of them (docs/method.md, section 7).

Everywhere a rank is 1 for the best place and 0 for a target that is not in the list. Metrics are per user, so
that means, intervals and slices can be taken afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from storerec.errors import DataError

Floats = NDArray[np.float64]
Ranks = NDArray[np.int32]


def item_ranks(items: np.ndarray, targets: np.ndarray) -> Ranks:
    """Rank of each user's target item in that user's list.

    Parameters
    ----------
    items
        (users, k) int, best first, -1 for none.
    targets
        (users,) int, catalogue rows.

    Returns
    -------
    (users,) int32, 0 where the target is not in the list.

    Raises
    ------
    DataError: the shapes do not fit.
    """
    if items.ndim != 2 or targets.shape != (len(items),):
        raise DataError(f"lists {items.shape} and targets {targets.shape} do not fit")
    hits = items == targets[:, None]
    return _first(hits, np.ones_like(hits))


def tuple_ranks(items: np.ndarray, targets: np.ndarray, tuple_of: np.ndarray) -> Ranks:
    """Rank of the target's code tuple among the distinct tuples of each list.

    A list's items are replaced by their tuples, of which only the first occurrences are kept; so a rank is
    never larger than the item's, and a collapsed code table makes it small for nothing. Arguments as in
    :func:`item_ranks`; tuple_of is (n_items,) int, the tuple of each item.
    """
    if items.ndim != 2 or targets.shape != (len(items),):
        raise DataError(f"lists {items.shape} and targets {targets.shape} do not fit")
    wanted = tuple_of[targets]
    tuples = np.where(items >= 0, tuple_of[items], -1)
    order = np.argsort(tuples, axis=1, kind="stable")
    ordered = np.take_along_axis(tuples, order, axis=1)
    first = np.ones(tuples.shape, dtype=bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    distinct = np.empty_like(first)
    np.put_along_axis(distinct, order, first, axis=1)
    return _first(tuples == wanted[:, None], distinct)


def recall(ranks: np.ndarray, k: int) -> Floats:
    """Recall@K of each user: [rank <= K]; (users,) to (users,)."""
    return ((ranks > 0) & (ranks <= k)).astype(np.float64)


def ndcg(ranks: np.ndarray, k: int) -> Floats:
    """NDCG@K of each user with one target: [rank <= K] / log2(rank + 1); never above Recall@K."""
    return recall(ranks, k) / np.log2(np.maximum(ranks, 1) + 1)


def reciprocal_rank(ranks: np.ndarray, k: int) -> Floats:
    """Reciprocal rank of each user: [rank <= K] / rank; its mean is MRR@K."""
    return recall(ranks, k) / np.maximum(ranks, 1)


def paper_ndcg(ranks: np.ndarray, k: int) -> Floats:
    """What the STORE paper prints as NDCG@K: log2(K + 1) * NDCG@20 (docs/method.md, section 7).

    Only for comparison with the paper's tables: it is no NDCG and can be above 1. Ranks must come from lists
    of at least 20 items.
    """
    return np.log2(k + 1) * ndcg(ranks, 20)


def user_metrics(ranks: np.ndarray, ks: Iterable[int], *, mrr: bool = False) -> dict[str, Floats]:
    """All metrics of each user by name: ``recall@K``, ``ndcg@K`` for each K, ``mrr@K`` for the largest K."""
    ks = tuple(ks)
    out = {f"recall@{k}": recall(ranks, k) for k in ks} | {f"ndcg@{k}": ndcg(ranks, k) for k in ks}
    if mrr:
        out[f"mrr@{max(ks)}"] = reciprocal_rank(ranks, max(ks))
    return out


def coverage(items: np.ndarray, k: int, n_items: int) -> float:
    """Share (0 to 1) of the catalogue's n_items that stands in at least one user's first k places."""
    top = items[:, :k]
    return len(np.unique(top[top >= 0])) / n_items


def _first(hits: np.ndarray, counted: np.ndarray) -> Ranks:
    """1 + counted places before the first hit of each row; 0 where there is none; both (users, k) bool."""
    if hits.shape[1] == 0:
        return np.zeros(len(hits), dtype=np.int32)
    at = hits.argmax(axis=1)
    rank = np.take_along_axis(np.cumsum(counted, axis=1), at[:, None], axis=1)[:, 0]
    return np.where(hits.any(axis=1), rank, 0).astype(np.int32)
