"""Metrics of scored candidates within groups (a user's or an impression's), ties and all, without loops."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from storerec.errors import DataError

NDCG_DEPTHS = (1, 5)
"""Depths of NDCG: the paper's and MIND's are 5, the paper's table has 1 too."""


def usable_groups(labels: np.ndarray, offsets: np.ndarray) -> NDArray[np.bool_]:
    """Groups with a positive and a negative, (groups,) bool; the others have no AUC and are dropped.

    Takes labels (n,) bool and offsets (groups + 1,): group g has candidates offsets[g]..offsets[g+1]-1. Raises
    :class:`DataError` where these do not fit.
    """
    _check(labels, labels, offsets)
    sizes = np.diff(offsets)
    positives = np.bincount(_group_of(offsets), weights=labels, minlength=len(sizes))
    return (positives > 0) & (positives < sizes)


def grouped_metrics(scores: np.ndarray, labels: np.ndarray, offsets: np.ndarray) -> dict[str, NDArray[np.float64]]:
    """AUC, MRR, NDCG@1 and NDCG@5 of each group, as MIND's official evaluation defines them.

    ``mrr`` is the sum over positives of 1 / rank, divided by the number of positives; ``ndcg@k`` has gain 1 for a
    positive, discount 1 / log2(rank + 1) and the best order's value below it. Candidates with equal scores are
    in no order: each metric is its mean over all orders of them, exactly. So a tie counts one half in AUC (as in
    ``sklearn.metrics.roc_auc_score``), NDCG agrees with ``sklearn.metrics.ndcg_score``, and constant scores are
    worth what random ones are.

    Parameters
    ----------
    scores
        (n,) float, higher is better; finite.
    labels
        (n,) bool, whether the candidate is a positive.
    offsets
        (groups + 1,) int: group g has candidates offsets[g]..offsets[g+1]-1.

    Returns
    -------
    ``auc``, ``mrr``, ``ndcg@1``, ``ndcg@5``: (usable groups,) each, groups without both labels left out
    (:func:`usable_groups` says which).

    Raises
    ------
    DataError: shapes that do not fit, or a score that is not finite.
    """
    _check(scores, labels, offsets)
    _check_finite(scores, offsets)
    usable = usable_groups(labels, offsets)
    keep = usable[_group_of(offsets)]
    sizes = np.diff(offsets)[usable]
    group = np.repeat(np.arange(len(sizes)), sizes)  # (n',)
    ranked = scores[keep].astype(np.float64)
    order = np.lexsort((-ranked, group))
    judged = labels[keep][order].astype(np.float64)
    before = (np.cumsum(sizes) - sizes)[group]  # (n',) candidates of the groups before
    expected, middle = _tied(ranked[order], judged, group)
    place = np.arange(len(group)) - before  # (n',) from 0 within the group

    def total(values: np.ndarray) -> NDArray[np.float64]:
        return np.bincount(group, weights=values, minlength=len(sizes)).astype(np.float64)

    positives = total(judged)
    # Candidates below each positive, ties half, less the pairs of two positives among them.
    above = total(expected * (sizes[group] - 1 - (middle - before))) - positives * (positives - 1) / 2
    out = {"auc": above / (positives * (sizes - positives)), "mrr": total(expected / (place + 1)) / positives}
    for k in NDCG_DEPTHS:
        gain = np.where(place < k, 1 / np.log2(place + 2), 0)
        best = np.concatenate([[0], np.cumsum(1 / np.log2(np.arange(k) + 2))])
        out[f"ndcg@{k}"] = total(expected * gain) / best[np.minimum(positives.astype(np.int64), k)]
    return out


def _tied(scores: np.ndarray, labels: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, NDArray[np.float64]]:
    """Expected label at each place, and the middle of its block of ties; all sorted, (n,) each."""
    if len(scores) == 0:
        return labels, np.zeros(0)
    new = np.ones(len(scores), dtype=bool)
    new[1:] = (scores[1:] != scores[:-1]) | (group[1:] != group[:-1])
    block = np.cumsum(new) - 1
    size = np.bincount(block)
    first = np.flatnonzero(new)
    return (np.bincount(block, weights=labels) / size)[block], (first + (size - 1) / 2)[block]


def _group_of(offsets: np.ndarray) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def _check_finite(scores: np.ndarray, offsets: np.ndarray) -> None:
    finite = np.isfinite(scores)
    if not finite.all():
        place = int(np.argmin(finite))
        group = int(np.searchsorted(offsets, place, side="right")) - 1
        raise DataError(f"group {group}, candidate {place - int(offsets[group])}: score {scores[place]} is not finite")


def _check(scores: np.ndarray, labels: np.ndarray, offsets: np.ndarray) -> None:
    if scores.ndim != 1 or labels.shape != scores.shape or labels.dtype != np.bool_:
        raise DataError(f"scores {scores.shape} and boolean labels {labels.shape} {labels.dtype} do not fit")
    ok = offsets.ndim == 1 and len(offsets) >= 1 and offsets[0] == 0 and offsets[-1] == len(scores)
    if not ok or (np.diff(offsets) < 0).any():
        raise DataError(f"offsets {offsets.shape} do not divide {len(scores)} candidates into groups")
