"""Dividing histories into training, validation and test, without a look at what is to be predicted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from pydantic import Field

from storerec.config import Config
from storerec.data.histories import Histories
from storerec.errors import DataError


class SplitConfig(Config):
    """How histories are divided."""

    protocol: Literal["leave_one_out", "users"] = "leave_one_out"
    """leave_one_out: of every user the last item is test, the one before it validation, all before it
    training. users: some users are test, others training, as in the paper.
    """

    test_users: int = Field(default=5000, ge=1)
    """Protocol users: number of test users, drawn by seed (the paper: 5,000 of 45,000)."""

    validation_share: float = Field(default=0.1, ge=0, lt=1)
    """Protocol users: share of the other users that serve validation (the paper: 10%)."""

    max_items: int = Field(default=20, ge=2)
    """Protocol users: a user's sequence is the last so many items, the target among them (the paper: 20)."""


@dataclass(frozen=True, eq=False)
class Cases:
    """One input history and one target per user.

    Attributes
    ----------
    histories
        What is known of each user, at least one item.
    targets
        (users,) int32 rows of the catalogue: the item that came next.
    """

    histories: Histories
    targets: np.ndarray

    def __len__(self) -> int:
        """Count the cases."""
        return len(self.histories)

    def select(self, users: np.ndarray) -> Cases:
        """Return the given cases (numbers or a mask)."""
        return Cases(self.histories.select(users), self.targets[users])


@dataclass(frozen=True, eq=False)
class Split:
    """Histories to train on, and cases to validate and test on.

    Attributes
    ----------
    protocol
        "leave_one_out" or "users".
    train
        Training sequences; no target of a validation or test case is in them as such.
    validation, test
        The cases.
    notes
        What a report must say of this split: users that could not serve as cases.
    """

    protocol: str
    train: Histories
    validation: Cases
    test: Cases
    notes: tuple[str, ...] = field(default=())


def split(histories: Histories, config: SplitConfig, seed: int) -> Split:
    """Divide by the protocol of ``config``; leave-one-out draws nothing, so it ignores ``seed``."""
    if config.protocol == "leave_one_out":
        return leave_one_out(histories)
    return split_users(histories, config.test_users, config.validation_share, config.max_items, seed)


def leave_one_out(histories: Histories) -> Split:
    """Hold out each user's last item as test target and the one before it as validation target.

    The test input is all items before the target, the validation item among them. Users with fewer than 3
    items have no training item left under that rule: they stay in training, whole, and give no case. Inputs
    keep their full length; whoever reads them cuts them.

    Raises
    ------
    DataError
        No user has 3 items.
    """
    lengths = histories.lengths
    eligible = lengths >= 3
    if not eligible.any():
        raise DataError("no user has 3 items, so leave-one-out has nothing to test; use protocol 'users'")
    start = np.zeros_like(lengths)
    train = histories.slice_each(start, np.where(eligible, lengths - 2, lengths))
    users = histories.select(eligible)
    return Split(
        "leave_one_out",
        train,
        _cases(users, back=2),
        _cases(users, back=1),
        _notes(int((~eligible).sum()), len(histories), 3),
    )


def split_users(histories: Histories, test_users: int, validation_share: float, max_items: int, seed: int) -> Split:
    """Divide the users: ``test_users`` random ones test, ``validation_share`` of the rest validate, the
    rest train.

    A user's sequence is the last ``max_items`` items; of test and validation users the last one is the
    target. The draw depends on the user ids and the seed alone, not on the order of users, so a re-written
    file gives the same split. Users with one item cannot be cases: they stay in training. At least one user
    validates, if the share is above 0.

    Raises
    ------
    DataError
        There are not enough users with 2 items for ``test_users`` and one training user.
    """
    recent = histories.tail(max_items)
    eligible = np.flatnonzero(recent.lengths >= 2)
    if eligible.size <= test_users:
        raise DataError(
            f"{test_users} test users are wanted, but only {eligible.size} users have 2 or more items; "
            "lower test_users, or use protocol 'leave_one_out'"
        )
    by_id = eligible[recent.user_ids[eligible].arg_sort().to_numpy()]
    drawn = np.random.default_rng(seed).permutation(by_id)
    rest = eligible.size - test_users
    wanted = max(1, round(validation_share * rest)) if validation_share > 0 and rest > 1 else 0
    test, validation = np.sort(drawn[:test_users]), np.sort(drawn[test_users : test_users + wanted])
    training = np.ones(len(recent), dtype=bool)
    training[test] = training[validation] = False
    return Split(
        "users",
        recent.select(training),
        _cases(recent.select(validation), back=1),
        _cases(recent.select(test), back=1),
        _notes(len(recent) - eligible.size, len(recent), 2),
    )


def check_trainable(divided: Split) -> None:
    """Raise :class:`DataError` when no training user has two items: there is nothing to predict then."""
    if not (divided.train.lengths >= 2).any():
        raise DataError("training needs at least one user with two or more items in the training part of the split")


def _cases(users: Histories, *, back: int) -> Cases:
    lengths = users.lengths
    targets = users.items[users.offsets[1:] - back]
    return Cases(users.slice_each(np.zeros_like(lengths), lengths - back), targets)


def _notes(short: int, total: int, needed: int) -> tuple[str, ...]:
    if short == 0:
        return ()
    return (f"{short} of {total} users have fewer than {needed} items: they serve training only",)
