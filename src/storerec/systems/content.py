"""Items like those of the history, by what the language model made of their texts: the baseline for new items."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from storerec.data.histories import Histories
from storerec.errors import DataError
from storerec.systems.base import Exclusions, RankedLists

_CELLS = 1 << 24
"""Most numbers (users x items) computed together; bounds memory."""


class ContentSimilarity:
    """Ranks items by the cosine between their dense tokens and the mean of the history's; needs no events to train on.

    Vectors are centred on the mean of the items that training saw: a language model's vectors share a large common
    part, which would make all cosines alike. An empty history ranks by catalogue row. Ties go to the smaller row.

    Parameters
    ----------
    vectors: (items, width), of length 1.
    recent: items of a history that count, the last ones.
    """

    name = "content similarity"

    def __init__(self, vectors: NDArray[np.float32], recent: int) -> None:
        self.vectors, self.recent = vectors, recent

    @classmethod
    def fit(cls, dense: np.ndarray, seen: int, *, recent: int = 5) -> Self:
        """From dense tokens (items, v, D), the first ``seen`` of which training saw."""
        flat = dense.reshape(len(dense), -1).astype(np.float32)
        flat = flat - flat[:seen].mean(axis=0)
        return cls(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12), recent)

    def recommend(self, histories: Histories, k: int, *, exclude: Exclusions) -> RankedLists:
        """Rank the k most similar items for each user; see :class:`storerec.systems.base.System`.

        Raises
        ------
        DataError: an item row of a history, or an excluded one, is not in the catalogue.
        """
        n = len(self.vectors)
        if len(histories.items) and int(histories.items.max()) >= n:
            raise DataError(f"a history holds item row {int(histories.items.max())}, the catalogue has {n} items")
        banned = ~exclude.allowed(n)
        items = np.full((len(histories), k), -1, np.int32)
        scores = np.full((len(histories), k), -np.inf, np.float32)
        step = max(1, _CELLS // n)
        for start in range(0, len(histories), step):
            part = np.arange(start, min(start + step, len(histories)))
            own, last = histories.select(part), histories.select(part).tail(self.recent)
            users = np.repeat(np.arange(len(own)), last.lengths)
            wanted = np.zeros((len(own), self.vectors.shape[1]), np.float32)
            np.add.at(wanted, users, self.vectors[last.items])
            wanted /= np.maximum(np.linalg.norm(wanted, axis=1, keepdims=True), 1e-12)
            found = wanted @ self.vectors.T  # (users, items)
            found[:, banned] = -np.inf
            if exclude.history:
                found[np.repeat(np.arange(len(own)), own.lengths), own.items] = -np.inf
            best = np.argsort(-found, axis=1, kind="stable")[:, :k]
            value = np.take_along_axis(found, best, axis=1)
            width = best.shape[1]
            items[part, :width] = np.where(np.isfinite(value), best, -1)
            scores[part, :width] = value
        return RankedLists(items, scores)
