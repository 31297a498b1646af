"""What to do when several items get the same code tuple: the three policies (docs/method.md, section 2)."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from storerec.errors import DataError

Policy = Literal["bucket", "extra", "reassign"]
POLICIES: tuple[str, ...] = get_args(Policy)


def group_rows(codes: np.ndarray) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Distinct rows of (n, L) codes in lexicographic order, and which of them each row is.

    Gives tuples (t, L) int32 and tuple_of (n,) int32. Like ``np.unique(axis=0, return_inverse=True)``, but by sorting
    one number per row: 20 million rows of 4 codes take seconds and, beside the result, 400 MB
    (benchmarks/tree_scale.py).
    """
    keys = _keys(codes)
    if keys is None:
        order = np.lexsort(codes.T[::-1])
        ordered = codes[order]
        new = np.ones(len(codes), dtype=bool)
        new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        del ordered
    else:
        order = np.argsort(keys)
        keys = keys[order]
        new = np.ones(len(codes), dtype=bool)
        np.not_equal(keys[1:], keys[:-1], out=new[1:])
        del keys
    tuple_of = np.empty(len(codes), dtype=np.int32)
    tuple_of[order] = np.cumsum(new, dtype=np.int32) - 1
    return codes[order[new]].astype(np.int32, copy=False), tuple_of


def _keys(codes: np.ndarray) -> NDArray[np.int64] | None:
    """A number (n,) per row that orders as rows do; None where 63 bits do not hold it."""
    if not len(codes):
        return None
    bits = [int(column.max()).bit_length() for column in codes.T]
    if sum(bits) > 63 or codes.min() < 0:
        return None
    keys = codes[:, 0].astype(np.int64)
    for column, more in zip(codes.T[1:], bits[1:], strict=True):
        keys <<= more
        keys |= column
    return keys


def number_within(groups: np.ndarray) -> NDArray[np.int32]:
    """Running number 0, 1, ... of each row within its group, in row order; (n,) int to (n,) int32."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    first = np.searchsorted(ordered, ordered, side="left")
    numbers = np.empty(len(groups), dtype=np.int32)
    numbers[order] = np.arange(len(groups)) - first
    return numbers


def append_number(codes: np.ndarray, published: np.ndarray | None = None) -> NDArray[np.int32]:
    """Policy ``extra``: append a position that numbers the items of a tuple in row order (as TIGER does).

    Parameters
    ----------
    codes
        (n, v) base codes of the new items.
    published
        (p, v + 1) codes already given out; new items are numbered after those of the same tuple.

    Returns
    -------
    (n, v + 1) int32 codes of the new items.
    """
    base = codes if published is None else np.concatenate([published[:, :-1], codes])
    numbers = number_within(group_rows(base)[1])[len(base) - len(codes) :]
    return np.concatenate([codes.astype(np.int32), numbers[:, None]], axis=1)


def reassign(
    codes: np.ndarray, sizes: np.ndarray, distances: np.ndarray | None, published: np.ndarray | None = None
) -> NDArray[np.int32]:
    """Policy ``reassign``: make tuples unique by moving items to the nearest free tuple.

    In each group of items with one tuple, the item nearest to its own centroids keeps it (ties by row),
    unless it is published already. The others move, in the order of their tuples, then rows, each to the free
    tuple with the smallest total squared distance. That tuple is exact: candidates are enumerated best first
    over all positions, so changes of one position, of two and of more compete by added distance alone.

    Parameters
    ----------
    codes
        (n, L) codes of the items to place.
    sizes
        (L,) codes per position.
    distances
        (n, L, >= max size) squared distances of those items to all centroids.
    published
        (p, L) unique tuples that are taken and never move.

    Returns
    -------
    (n, L) int32, unique among themselves and against ``published``.

    Raises
    ------
    DataError: no distances, distances of a wrong shape or not finite, or more items than possible tuples.
    """
    distances = _checked_distances(codes, sizes, distances)
    taken = set() if published is None else set(map(tuple, published.tolist()))
    capacity = math.prod(int(k) for k in sizes)
    if len(codes) + len(taken) > capacity:
        raise DataError(
            f"{len(codes) + len(taken)} items need unique code tuples, but positions of sizes "
            f"{sizes.tolist()} give only {capacity}; use more clusters, positions or another policy"
        )
    tuples, tuple_of = group_rows(codes)
    own = np.take_along_axis(distances, codes[:, :, None], axis=2)[:, :, 0].astype(np.float64).sum(axis=1)
    order = np.lexsort((np.arange(len(codes)), own, tuple_of))
    nearest = np.ones(len(codes), dtype=bool)
    nearest[1:] = tuple_of[order][1:] != tuple_of[order][:-1]
    is_free = np.array([t not in taken for t in map(tuple, tuples.tolist())], dtype=bool)
    keeps = np.zeros(len(codes), dtype=bool)
    keeps[order[nearest]] = is_free
    taken.update(map(tuple, tuples.tolist()))
    return _place(codes, sizes, distances, tuple_of, np.flatnonzero(~keeps), taken)


def _place(
    codes: np.ndarray,
    sizes: np.ndarray,
    distances: np.ndarray,
    tuple_of: np.ndarray,
    movers: np.ndarray,
    taken: set[tuple[int, ...]],
) -> NDArray[np.int32]:
    """Give every mover the cheapest tuple not in ``taken``."""
    out = codes.astype(np.int32, copy=True)
    movers = movers[np.argsort(tuple_of[movers], kind="stable")]
    group, searches = -1, dict[bytes, Iterator[tuple[int, ...]]]()
    for row in movers.tolist():
        if tuple_of[row] != group:
            group, searches = int(tuple_of[row]), {}
        # Items with the same vectors share one search: what it has passed is taken and stays taken, so a
        # group of m duplicates costs m steps instead of m squared.
        key = distances[row].tobytes()
        if key not in searches:
            searches[key] = _by_distance([distances[row, j, :k] for j, k in enumerate(sizes.tolist())])
        found = next(t for t in searches[key] if t not in taken)
        taken.add(found)
        out[row] = found
    return out


def _by_distance(distances: list[np.ndarray]) -> Iterator[tuple[int, ...]]:
    """All code tuples in the order of their summed distances; ties by the codes' ranks."""
    orders = [np.argsort(d, kind="stable").tolist() for d in distances]
    ascending = [np.sort(d, kind="stable").astype(np.float64).tolist() for d in distances]
    start = (0,) * len(orders)
    # An entry is (total, ranks, last): ranks index the sorted alternatives. Only positions >= last are
    # advanced, so each combination is reached by exactly one way and none is missed; totals never fall along
    # that way.
    heap = [(sum(a[0] for a in ascending), start, 0)]
    while heap:
        _, ranks, last = heapq.heappop(heap)
        yield tuple(order[r] for order, r in zip(orders, ranks, strict=True))
        for j in range(last, len(ranks)):
            if ranks[j] + 1 < len(orders[j]):
                step = (*ranks[:j], ranks[j] + 1, *ranks[j + 1 :])
                heapq.heappush(heap, (sum(a[r] for a, r in zip(ascending, step, strict=True)), step, j))


def _checked_distances(codes: np.ndarray, sizes: np.ndarray, distances: np.ndarray | None) -> np.ndarray:
    if distances is None:
        raise DataError("collision policy 'reassign' needs the items' distances to all centroids")
    if distances.ndim != 3 or distances.shape[:2] != codes.shape or distances.shape[2] < int(max(sizes)):
        raise DataError(f"distances have shape {distances.shape}, expected {(*codes.shape, int(max(sizes)))} or wider")
    for j, k in enumerate(sizes.tolist()):
        good = np.isfinite(distances[:, j, :k]).all(axis=1)
        if not good.all():
            raise DataError(f"item row {int(np.argmin(good))}, position {j}: a distance is not finite")
    return distances
