"""What every recommender is to its users: the protocol, its result and what it must not return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from storerec.data.histories import Histories
from storerec.errors import DataError


@dataclass(frozen=True, eq=False)
class RankedLists:
    """The best k items of each user, best first.

    Attributes
    ----------
    items: (users, k) int32 catalogue rows, no row twice in a list; -1 = none, only at the end of a list.
    scores: (users, k) float32, never rising along a list (but behind a place that :mod:`storerec.systems.reserve`
        kept for a new item); -inf where items is -1. Their meaning is the system's.

    Raises
    ------
    DataError: the two arrays differ in shape, or are not two-dimensional.
    """

    items: NDArray[np.int32]
    scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.items.ndim != 2 or self.items.shape != self.scores.shape:
            raise DataError(f"ranked lists: items {self.items.shape} and scores {self.scores.shape} do not fit")

    def __len__(self) -> int:
        """Number of users."""
        return len(self.items)


@dataclass(frozen=True, eq=False)
class Exclusions:
    """Items that must not be returned. Lists stay k long as long as k other items exist.

    Attributes
    ----------
    history: leave out, for each user, the items in that user's own input history.
    items: catalogue rows never to return, for all users (sold out, filtered); None for no such rows.
    """

    history: bool = False
    items: NDArray[np.integer] | None = None

    def allowed(self, n_items: int) -> NDArray[np.bool_]:
        """Mask (n_items,) of the items not in :attr:`items`; DataError for a row out of range."""
        mask = np.ones(n_items, dtype=bool)
        if self.items is not None and len(self.items):
            if self.items.min() < 0 or self.items.max() >= n_items:
                raise DataError(f"excluded item rows must be within 0..{n_items - 1}")
            mask[self.items] = False
        return mask


@runtime_checkable
class System(Protocol):
    """A recommender: user histories in, ranked lists out.

    ``name`` heads its column in reports. ``recommend`` gives each user the k best items; a user's list
    depends on that user's history alone, never on the other users in the call, and the same call gives the
    same lists. An empty history gets what the system knows without one. A system that cuts the users into batches by
    itself may set ``own_batches = True``: an evaluation then hands it all users at once.
    """

    name: str

    def recommend(self, histories: Histories, k: int, *, exclude: Exclusions) -> RankedLists:
        """Rank the best ``k`` (>= 1) items for each user; lists are filled up with -1 when fewer remain."""
        ...


def keep_first(
    candidates: np.ndarray, scores: np.ndarray, valid: np.ndarray, k: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """First k valid candidates of each row, in their order, padded with -1 and -inf.

    Takes candidates (users, m), scores (users, m) and valid (users, m) bool; gives items (users, k) int32 and
    scores (users, k) float32.
    """
    m = candidates.shape[1]
    # The place a valid candidate gets is the number of valid ones before it: no sorting needed.
    place = np.cumsum(valid, axis=1) - 1
    rows, columns = np.nonzero(valid & (place < k))
    items = np.full((len(candidates), k), -1, dtype=np.int32)
    kept = np.full((len(candidates), k), -np.inf, dtype=np.float32)
    if m:
        target = place[rows, columns]
        items[rows, target] = candidates[rows, columns]
        kept[rows, target] = scores[rows, columns]
    return items, kept
