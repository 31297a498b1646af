"""First-order Markov chain: what most often came next after the last item."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from storerec.data.histories import Histories
from storerec.systems.base import Exclusions, RankedLists, keep_first
from storerec.systems.popularity import PopularityRanking, batches, check_rows


class Markov:
    """Ranks items by how often they directly followed the last item in training, then by popularity.

    The score is ``c(last, item) + p(item)`` with c the number of consecutive training pairs and p the item's
    training count divided by (largest count + 1), so 0 <= p < 1: items that followed come first, by pair
    count, ties among them by popularity; then all others by popularity; last ties by catalogue row. An empty
    history, or a last item nothing followed, gives the popularity ranking.
    """

    name = "markov"

    def __init__(
        self,
        counts: NDArray[np.int64],
        starts: NDArray[np.int64],
        nexts: NDArray[np.int32],
        pair_counts: NDArray[np.int64],
    ) -> None:
        """Take counts (n,) and successors, best first: starts (n + 1,), nexts and pair_counts (pairs,)."""
        self.counts, self.starts, self.nexts, self.pair_counts = counts, starts, nexts, pair_counts
        self._popularity = counts / (counts.max(initial=0) + 1)

    @classmethod
    def fit(cls, train: Histories, n_items: int) -> Self:
        """Count all consecutive pairs of the training sequences; DataError for a row not below n_items."""
        check_rows(train, n_items)
        counts = train.item_counts(n_items)
        inside = np.ones(max(len(train.items) - 1, 0), dtype=bool)
        borders = train.offsets[1:-1] - 1  # the last event of a user; what follows it is another user's
        inside[borders[(borders >= 0) & (borders < len(inside))]] = False
        keys = train.items[:-1].astype(np.int64)[inside] * n_items + train.items[1:][inside]
        pairs, pair_counts = np.unique(keys, return_counts=True)
        first, second = np.divmod(pairs, n_items)
        order = np.lexsort((second, -counts[second], -pair_counts, first))
        starts = np.searchsorted(first, np.arange(n_items + 1)).astype(np.int64)
        return cls(counts, starts, second[order].astype(np.int32), pair_counts[order])

    def recommend(self, histories: Histories, k: int, *, exclude: Exclusions) -> RankedLists:
        """Rank the k best items for each user; see :class:`storerec.systems.base.System`."""
        ranking = PopularityRanking(self.counts, exclude)
        chain = self._only(exclude.allowed(len(self.counts)))
        items = np.full((len(histories), k), -1, dtype=np.int32)
        scores = np.full((len(histories), k), -np.inf, dtype=np.float32)
        for part in batches(histories, k):
            items[part], scores[part] = chain._rank(histories.select(part), k, exclude.history, ranking)
        return RankedLists(items, scores)

    def _only(self, allowed: np.ndarray) -> Markov:
        """The same chain without successors that are not allowed."""
        good = allowed[self.nexts]
        starts = np.concatenate([[0], np.cumsum(good)])[self.starts]
        return Markov(self.counts, starts, self.nexts[good], self.pair_counts[good])

    def _rank(
        self, own: Histories, k: int, exclude_history: bool, ranking: PopularityRanking
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lists of one batch: each user's successors, then popularity without them."""
        longest = int(own.lengths.max(initial=0)) if exclude_history else 0
        seen_user = np.repeat(np.arange(len(own)), own.lengths) if exclude_history else np.empty(0, np.int64)
        seen_item = own.items[: len(seen_user)]
        # At most `longest` of a user's successors drop out, so more than k + longest can never be returned.
        user, place, item, count = self._successors(own, k + longest)
        n, width = len(self.counts), int(place.max(initial=-1)) + 1
        chain = np.zeros((len(own), width), dtype=np.int32)
        chain_scores = np.zeros((len(own), width))
        chain_valid = np.zeros((len(own), width), dtype=bool)
        chain[user, place] = item
        chain_scores[user, place] = count + self._popularity[item]
        chain_valid[user, place] = ~np.isin(user * n + item, seen_user * n + seen_item)
        without = np.concatenate([seen_user, user]), np.concatenate([seen_item, item])
        popular, valid = ranking.candidates(len(own), k + longest + width, *without)
        return keep_first(
            np.concatenate([chain, popular], axis=1),
            np.concatenate([chain_scores, self._popularity[popular]], axis=1),
            np.concatenate([chain_valid, valid], axis=1),
            k,
        )

    def _successors(self, own: Histories, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The first ``most`` successors of each user's last item, flat: (user, place, item, pair count)."""
        known = np.flatnonzero(own.lengths > 0)
        last = own.items[own.offsets[known + 1] - 1]
        spans = np.minimum(self.starts[last + 1] - self.starts[last], most)
        place = np.arange(spans.sum()) - np.repeat(np.cumsum(spans) - spans, spans)
        flat = np.repeat(self.starts[last], spans) + place
        return np.repeat(known, spans), place, self.nexts[flat], self.pair_counts[flat]
