"""Scorers without a language model, which any other must beat."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from storerec.data.histories import Histories
from storerec.data.judgements import Candidates, Judgements
from storerec.errors import DataError
from storerec.systems.popularity import Popularity, check_rows


class PopularityScorer(Popularity):
    """Scores an item by its number of training events, for every user alike."""

    def score(self, candidates: Candidates) -> NDArray[np.float32]:
        """Training events of each candidate; see :class:`storerec.systems.scorer.Scorer`."""
        return self.counts[candidates.items].astype(np.float32)


class ClickRateScorer:
    """Scores an item by the share of training candidates of it that were chosen, for every user alike.

    The share is smoothed towards the overall one, by ``smoothing`` candidates of it: ``(chosen + s r) / (shown + s)``.
    """

    name = "click-rate"

    def __init__(self, rates: NDArray[np.float32]) -> None:
        """Take smoothed shares (n_items,)."""
        self.rates = rates

    @classmethod
    def fit(cls, train: Judgements, n_items: int, *, smoothing: float = 10.0) -> Self:
        """Count what was shown and chosen; DataError for a row beyond ``n_items`` or when there is no candidate."""
        items = train.candidates.items
        if not len(items) or int(items.max()) >= n_items:
            raise DataError(f"click rates need training candidates, all of them among {n_items} items")
        shown = np.bincount(items, minlength=n_items)
        chosen = np.bincount(items, train.labels, minlength=n_items)
        return cls(((chosen + smoothing * train.labels.mean()) / (shown + smoothing)).astype(np.float32))

    def score(self, candidates: Candidates) -> NDArray[np.float32]:
        """Smoothed share of each candidate; see :class:`storerec.systems.scorer.Scorer`."""
        return self.rates[candidates.items]


class LastItemScorer:
    """Scores an item by how often it directly followed the history's last item in training, then by popularity.

    The score is ``c(last, item) + p(item)`` as in :class:`storerec.systems.markov.Markov`; without a history it is
    the popularity alone.
    """

    name = "markov"

    def __init__(self, counts: NDArray[np.int64], keys: NDArray[np.int64], pair_counts: NDArray[np.int64]) -> None:
        """Take training counts (n,), and consecutive pairs as keys ``first * n + second``, rising, with counts."""
        self.counts, self.keys, self.pair_counts = counts, keys, pair_counts

    @classmethod
    def fit(cls, train: Histories, n_items: int) -> Self:
        """Count all consecutive pairs of the training sequences; DataError for a row not below n_items."""
        check_rows(train, n_items)
        user = np.repeat(np.arange(len(train)), train.lengths)
        inside = user[1:] == user[:-1]
        keys = train.items[:-1].astype(np.int64)[inside] * n_items + train.items[1:][inside]
        return cls(train.item_counts(n_items), *np.unique(keys, return_counts=True))

    def score(self, candidates: Candidates) -> NDArray[np.float32]:
        """Pairs with the last item, and popularity; see :class:`storerec.systems.scorer.Scorer`."""
        popularity = self.counts[candidates.items] / (self.counts.max(initial=0) + 1)
        histories = candidates.histories
        known = (histories.lengths > 0)[candidates.groups]
        last = histories.items[histories.offsets[1:][candidates.groups[known]] - 1]
        wanted = last.astype(np.int64) * len(self.counts) + candidates.items[known]
        place = np.minimum(np.searchsorted(self.keys, wanted), max(len(self.keys) - 1, 0))
        found = self.keys[place] == wanted if len(self.keys) else np.zeros(len(wanted), bool)
        pairs = np.zeros(len(candidates.items))
        pairs[np.flatnonzero(known)[found]] = self.pair_counts[place[found]]
        return (pairs + popularity).astype(np.float32)
