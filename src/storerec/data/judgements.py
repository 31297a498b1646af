"""Candidates to score and what their users said of them; the two apart, so that no scorer can see a label."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from storerec.data.histories import Histories
from storerec.errors import DataError


@dataclass(frozen=True, eq=False)
class Candidates:
    """Groups of items to score, each group against one history (CSR): group ``g`` has the candidates
    ``items[offsets[g]:offsets[g + 1]]``. This is all that a scorer gets.

    Attributes
    ----------
    histories
        One per group, empty ones allowed; its user ids are the groups' ids (a user, or an impression).
    offsets
        (groups + 1,) int64, from 0 to the number of candidates, never falling.
    items
        (n,) int32 rows of the catalogue.

    Raises
    ------
    DataError
        The offsets do not fit the histories and items, or an item row is negative.
    """

    histories: Histories
    offsets: NDArray[np.int64]
    items: NDArray[np.int32]

    def __post_init__(self) -> None:
        """Bring the arrays into final form and check them."""
        offsets, items = np.ascontiguousarray(self.offsets, np.int64), np.ascontiguousarray(self.items, np.int32)
        object.__setattr__(self, "offsets", offsets)
        object.__setattr__(self, "items", items)
        groups = len(self.histories)
        if items.ndim != 1 or offsets.shape != (groups + 1,) or offsets[0] != 0 or offsets[-1] != items.size:
            raise DataError(f"offsets {offsets.shape} do not fit {groups} groups and candidates {items.shape}")
        if (np.diff(offsets) < 0).any() or (items < 0).any():
            raise DataError("offsets must not fall and candidate rows must not be negative")

    def __len__(self) -> int:
        """Count the groups."""
        return len(self.histories)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of candidates of each group, (groups,) int64."""
        return np.diff(self.offsets)

    @property
    def groups(self) -> NDArray[np.int64]:
        """The group each candidate belongs to, (n,) int64."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def places(self, groups: NDArray[np.integer] | NDArray[np.bool_]) -> NDArray[np.int64]:
        """Where the candidates of the given groups (numbers or a mask) lie in ``items``, in their order."""
        chosen = numbers(groups)
        lengths = self.lengths[chosen]
        starts = np.cumsum(lengths) - lengths
        return np.arange(lengths.sum()) + np.repeat(self.offsets[chosen] - starts, lengths)

    def select(self, groups: NDArray[np.integer] | NDArray[np.bool_]) -> Candidates:
        """Return the given groups (numbers, in the order given, or a mask)."""
        chosen = numbers(groups)
        offsets = np.concatenate([[0], np.cumsum(self.lengths[chosen])]).astype(np.int64)
        return Candidates(self.histories.select(chosen), offsets, self.items[self.places(chosen)])


@dataclass(frozen=True, eq=False)
class Judgements:
    """Candidates and what their users said of them.

    Attributes
    ----------
    candidates
        What a scorer may see.
    labels
        (n,) bool: True where the user clicked or liked.
    users
        (groups,) String, the user of each group, for draws by user; None where the groups' ids are the users.

    Raises
    ------
    DataError
        The labels do not fit the candidates, or the users the groups.
    """

    candidates: Candidates
    labels: NDArray[np.bool_]
    users: pl.Series | None = None

    def __post_init__(self) -> None:
        """Check the shapes."""
        if self.labels.shape != self.candidates.items.shape or self.labels.dtype != bool:
            raise DataError(f"labels must be bool, one per candidate: {self.labels.dtype} {self.labels.shape}")
        if self.users is not None and len(self.users) != len(self.candidates):
            raise DataError(f"{len(self.users)} users do not fit {len(self.candidates)} groups")

    def __len__(self) -> int:
        """Count the groups."""
        return len(self.candidates)

    def __repr__(self) -> str:
        """Say the sizes."""
        return f"Judgements({len(self)} groups, {self.labels.size} candidates, {int(self.labels.sum())} positive)"

    @property
    def user_ids(self) -> pl.Series:
        """The user of each group, (groups,) String."""
        return self.candidates.histories.user_ids if self.users is None else self.users

    @property
    def positives(self) -> NDArray[np.int64]:
        """The number of positive candidates of each group, (groups,) int64."""
        ends = np.concatenate([[0], np.cumsum(self.labels)])
        return np.diff(ends[self.candidates.offsets])

    @property
    def negatives(self) -> NDArray[np.int64]:
        """The number of negative candidates of each group, (groups,) int64."""
        return self.candidates.lengths - self.positives

    def select(self, groups: NDArray[np.integer] | NDArray[np.bool_]) -> Judgements:
        """Return the given groups (numbers, in the order given, or a mask)."""
        chosen = numbers(groups)
        users = None if self.users is None else self.users[chosen]
        return Judgements(self.candidates.select(chosen), self.labels[self.candidates.places(chosen)], users)

    def drop_one_sided(self) -> Judgements:
        """Return the groups with a positive and a negative: ranking measures are undefined on the others."""
        return self.select((self.positives > 0) & (self.negatives > 0))


@dataclass(frozen=True, eq=False)
class JudgementSplit:
    """Judgements to train on, to stop by, and to test on; no user is in two of them.

    Attributes
    ----------
    train, validation, test
        The parts.
    notes
        What a report must say of them.
    """

    train: Judgements
    validation: Judgements
    test: Judgements
    notes: tuple[str, ...] = field(default=())


def numbers(groups: NDArray[np.integer] | NDArray[np.bool_]) -> NDArray[np.int64]:
    """Turn numbers or a mask into numbers, (m,) int64."""
    chosen = np.asarray(groups)
    return np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
