"""Dividing judgements by user into training, validation and test."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from storerec.config import Config
from storerec.data.judgements import Judgements, JudgementSplit
from storerec.data.splits import Split
from storerec.errors import DataError


class JudgementSplitConfig(Config):
    """How users with judgements are divided."""

    test_users: int | float = Field(default=5000, gt=0)
    """Users whose groups are test: a number (the paper: 5,000), or below 1 a share of all."""

    validation_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of the other users whose groups are validation (the paper: 10%)."""

    train_users: int | None = Field(default=None, ge=1)
    """Other users kept at most, validation among them (the paper: 40,000); none keeps all."""


def split_judgements(
    judgements: Judgements, config: JudgementSplitConfig, seed: int, *, like: Split | None = None
) -> JudgementSplit:
    """Divide by users, all groups of a user together.

    The draw is that of :func:`storerec.data.split_users`: it depends on the user ids and the seed alone, not on the
    order of groups, so a re-written file gives the same parts.

    Parameters
    ----------
    like
        A split of histories of protocol "users": its test users' groups are test, its validation users' validation,
        all others training. What a recommender learned from its training users then says nothing of the test users
        here. ``config`` and ``seed`` are not used then.

    Raises
    ------
    DataError
        There are not enough users; ``like`` is of another protocol, or none of its test users has judgements.
    """
    ids = judgements.user_ids
    if like is not None:
        return _divide(judgements, *_parts_of(like, ids))
    users = ids.unique().sort()
    wanted = config.test_users if config.test_users >= 1 else max(1, round(config.test_users * len(users)))
    test = int(wanted)
    if len(users) <= test:
        raise DataError(f"{test} test users are wanted, but only {len(users)} users have judgements; lower test_users")
    drawn = users[np.random.default_rng(seed).permutation(len(users))]
    rest = drawn[test:] if config.train_users is None else drawn[test : test + config.train_users]
    count = max(1, round(config.validation_share * len(rest))) if config.validation_share > 0 and len(rest) > 1 else 0
    groups = [_of(ids, part) for part in (rest[count:], rest[:count], drawn[:test])]
    return _divide(judgements, *groups)


def _parts_of(like: Split, ids: pl.Series) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    if like.protocol != "users":
        raise DataError(f"judgements cannot follow a split of protocol '{like.protocol}': its users are in all parts")
    test, validation = (_of(ids, cases.histories.user_ids) for cases in (like.test, like.validation))
    if not test.any():
        raise DataError("none of the split's test users has judgements")
    return ~test & ~validation, validation, test


def _of(ids: pl.Series, users: pl.Series) -> NDArray[np.bool_]:
    return ids.is_in(users.implode()).to_numpy()


def _divide(
    judgements: Judgements, train: NDArray[np.bool_], validation: NDArray[np.bool_], test: NDArray[np.bool_]
) -> JudgementSplit:
    parts = [judgements.select(part) for part in (train, validation, test)]
    one_sided = int(((parts[2].positives == 0) | (parts[2].negatives == 0)).sum())
    notes = (f"{one_sided} of {len(parts[2])} test groups have candidates of one kind only",) if one_sided else ()
    return JudgementSplit(parts[0], parts[1], parts[2], notes)
