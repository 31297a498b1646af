"""Most popular items: the baseline without personalisation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import numpy as np
from numpy.typing import NDArray

from storerec.data.histories import Histories
from storerec.errors import DataError
from storerec.systems.base import Exclusions, RankedLists, keep_first

_CELLS = 1 << 22
"""Most candidates (users x list) looked at together; bounds memory."""


class Popularity:
    """Ranks items by their number of training events; ties, and items never seen, by catalogue row.

    Scores are those numbers. Every user gets the same list, but for excluded items.
    """

    name = "popularity"

    def __init__(self, counts: NDArray[np.int64]) -> None:
        """Take training counts (n_items,)."""
        self.counts = counts

    @classmethod
    def fit(cls, train: Histories, n_items: int) -> Self:
        """Count the training events of each of ``n_items`` items; DataError for a row beyond them."""
        check_rows(train, n_items)
        return cls(train.item_counts(n_items))

    def recommend(self, histories: Histories, k: int, *, exclude: Exclusions) -> RankedLists:
        """Rank the k most popular items for each user; see :class:`storerec.systems.base.System`."""
        ranking = PopularityRanking(self.counts, exclude)
        items = np.full((len(histories), k), -1, dtype=np.int32)
        scores = np.full((len(histories), k), -np.inf, dtype=np.float32)
        for part in batches(histories, k):
            own = histories.select(part)
            users = np.repeat(np.arange(len(own)), own.lengths) if exclude.history else np.empty(0, np.int64)
            pairs = (users, own.items[: len(users)])
            width = k + (int(own.lengths.max(initial=0)) if exclude.history else 0)
            candidates, valid = ranking.candidates(len(own), width, *pairs)
            items[part], scores[part] = keep_first(candidates, self.counts[candidates], valid, k)
        return RankedLists(items, scores)


class PopularityRanking:
    """Allowed items by falling count, ready to be handed out with some left out per user."""

    def __init__(self, counts: np.ndarray, exclude: Exclusions) -> None:
        order = np.lexsort((np.arange(len(counts)), -counts))
        self._order = order[exclude.allowed(len(counts))[order]].astype(np.int32)
        self._rank = np.full(len(counts), len(counts), dtype=np.int64)
        self._rank[self._order] = np.arange(len(self._order))

    def candidates(
        self, users: int, width: int, without_user: np.ndarray, without_item: np.ndarray
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """The first ``width`` allowed items for each of ``users`` users, and which of them are valid.

        Gives candidates (users, m) and valid (users, m) with m = min(width, allowed items); pair i of
        ``without_user``, ``without_item`` makes that item not valid for that user.
        """
        head = self._order[:width]
        valid = np.ones((users, len(head)), dtype=bool)
        rank = self._rank[without_item]
        inside = rank < len(head)
        valid[without_user[inside], rank[inside]] = False
        return np.broadcast_to(head, valid.shape), valid


def batches(histories: Histories, k: int) -> Iterator[NDArray[np.int64]]:
    """Runs of user numbers whose candidate matrices stay within a fixed memory."""
    longest = int(histories.lengths.max(initial=0))
    rows = max(1, _CELLS // (3 * (k + longest)))
    return (np.arange(start, min(start + rows, len(histories))) for start in range(0, len(histories), rows))


def check_rows(train: Histories, n_items: int) -> None:
    """Raise DataError when a training event's item row is not below ``n_items``."""
    if len(train.items) and int(train.items.max()) >= n_items:
        raise DataError(f"training histories hold item row {int(train.items.max())}, but there are {n_items} items")
