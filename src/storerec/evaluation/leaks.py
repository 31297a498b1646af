"""Checks that nothing a system is asked for reached it beforehand, and that its answers are lists of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from storerec.codes.table import CodeTable
from storerec.codes.tree import CodeTree
from storerec.data.histories import Histories
from storerec.data.splits import Cases, Split
from storerec.errors import DataError

_HELD_OUT = {"leave_one_out": {"validation": 1, "test": 0}, "users": {"validation": 0, "test": 0}}
"""How many of a user's last events come after the target, by protocol and part."""


def check_split(histories: Histories, split: Split) -> None:
    """Check that no target event of a split can be known to who trains on it or reads a case's input.

    Every case is held against its user's full sequence: input and target must be consecutive events of it (the
    input may be cut at its start), the target where the protocol holds it out; so the target event is never in
    the input. Training must be the events before the held-out ones (leave-one-out), or of other users (protocol
    users). Equal items at other times are no leak: people come back to items.

    Parameters
    ----------
    histories
        All users' full sequences, as given to the split.
    split
        The split under test.

    Raises
    ------
    DataError: a leak, with the user and the place; or a user ``histories`` does not have, or another protocol.
    """
    if split.protocol not in _HELD_OUT:
        raise DataError(f"no leak check is known for protocol '{split.protocol}'; known: {', '.join(_HELD_OUT)}")
    if split.protocol == "users":
        _check_users(split)
    for part, cases in (("validation", split.validation), ("test", split.test)):
        _check_cases(histories, cases, part, _HELD_OUT[split.protocol][part])
    owners = _owners(histories, split.train, "training")
    if split.protocol == "users":
        begin = histories.lengths[owners] - split.train.lengths
    else:
        _check_before(histories, owners, split)
        begin = np.zeros(len(owners), dtype=np.int64)
    _check_same(histories, owners, begin, split.train, "training")


def check_tree(codes: CodeTable | CodeTree, n_items: int, *, table: CodeTable | None = None) -> None:
    """Check that a code table or tree covers the whole catalogue, not only items of some users.

    With ``table`` a tree must also lead to that table's codes for every item. Raises :class:`DataError` naming
    the first item row at fault.
    """
    tuple_of = codes.tuple_of
    what = "code table" if isinstance(codes, CodeTable) else "code tree"
    if len(tuple_of) != n_items:
        raise DataError(f"the {what} has {len(tuple_of)} items, the catalogue {n_items}; build it from all items")
    leaves = len(codes.tuples) if isinstance(codes, CodeTable) else codes.nodes(codes.levels)
    bad = (tuple_of < 0) | (tuple_of >= leaves)
    if bad.any():
        raise DataError(f"{what}: item row {int(np.argmax(bad))} lies under no leaf")
    used = np.bincount(tuple_of, minlength=leaves)
    if (used == 0).any():
        raise DataError(f"{what}: leaf {int(np.argmin(used))} has no item; it would be decoded to nothing")
    if isinstance(codes, CodeTree) and table is not None:
        paths = np.stack([codes.codes[level][codes.node_of(level + 1)] for level in range(codes.levels)], axis=1)
        if paths.shape != table.codes.shape or (paths != table.codes).any():
            wrong = 0 if paths.shape != table.codes.shape else int(np.argmax((paths != table.codes).any(axis=1)))
            raise DataError(f"code tree: the path of item row {wrong} is not its code tuple; build the tree again")


def check_lists(items: np.ndarray, n_items: int, *, user_ids: Sequence[str] | pl.Series | None = None) -> None:
    """Check ranked lists (users, K): catalogue rows, -1 only after the last, none twice.

    ``user_ids`` (users,) name the user in the message instead of a number. Raises :class:`DataError` with the
    user and the place (from 1).
    """
    if items.ndim != 2 or not np.issubdtype(items.dtype, np.integer):
        raise DataError(f"ranked lists must be integers (users, K), got {items.shape} {items.dtype}")
    outside = (items < -1) | (items >= n_items)
    if outside.any():
        user, place = _first(outside)
        where = _where(user, place, user_ids)
        raise DataError(f"{where} has item row {int(items[user, place])}, the catalogue {n_items} items")
    gap = (items[:, 1:] >= 0) & (items[:, :-1] < 0)
    if gap.any():
        user, place = _first(gap)
        raise DataError(f"{_where(user, place + 1, user_ids)} comes after an empty place; empty ones belong last")
    order = np.argsort(items, axis=1, kind="stable")
    ordered = np.take_along_axis(items, order, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        user, at = _first(twice)
        where = _where(user, int(order[user, at + 1]), user_ids)
        raise DataError(f"{where} repeats item row {int(ordered[user, at + 1])}; a list may have an item once")


def check_excluded(items: np.ndarray, histories: Histories, n_items: int) -> None:
    """Check that no list (users, K) has an item of that user's own history; for reports that exclude these.

    Raises :class:`DataError` with the user and the place.
    """
    users = np.repeat(np.arange(len(histories)), histories.lengths)
    keys = np.where(items >= 0, np.arange(len(items))[:, None] * n_items + items, -1)
    known = np.isin(keys, np.unique(users * n_items + histories.items))
    if known.any():
        user, place = _first(known)
        raise DataError(
            f"{_where(user, place, histories.user_ids)} has item row {int(items[user, place])} of the user's history, "
            "which this comparison excludes"
        )


def _check_before(histories: Histories, owners: np.ndarray, split: Split) -> None:
    """Leave-one-out: no training sequence reaches its user's held-out events."""
    held = np.zeros(len(histories), dtype=np.int64)
    for back, (part, cases) in enumerate([("test", split.test), ("validation", split.validation)], start=1):
        held[_owners(histories, cases.histories, part)] = back
    allowed = (histories.lengths - held)[owners]
    over = split.train.lengths > allowed
    if over.any():
        user = int(np.argmax(over))
        raise DataError(
            f"leak: training has {int(split.train.lengths[user])} events of user '{split.train.user_ids[user]}', and "
            f"those after event {int(allowed[user])} are held out; split again"
        )


def _check_cases(histories: Histories, cases: Cases, part: str, back: int) -> None:
    if len(cases.targets) != len(cases.histories):
        raise DataError(f"{part}: {len(cases.targets)} targets for {len(cases.histories)} users")
    owners = _owners(histories, cases.histories, part)
    lengths = cases.histories.lengths
    at = histories.lengths[owners] - 1 - back  # place of the target in the full sequence
    short = at < lengths
    if short.any():
        user = int(np.argmax(short))
        name = cases.histories.user_ids[user]
        raise DataError(f"leak: {part} case of user '{name}' has {int(lengths[user])} inputs, among them the target")
    wrong = histories.items[histories.offsets[owners] + at] != cases.targets
    if wrong.any():
        user = int(np.argmax(wrong))
        raise DataError(
            f"{part} case of user '{cases.histories.user_ids[user]}': the target, item row {int(cases.targets[user])}, "
            f"is not event {int(at[user]) + 1} of the full sequence, which the protocol holds out"
        )
    _check_same(histories, owners, at - lengths, cases.histories, part)


def _check_same(histories: Histories, owners: np.ndarray, start: np.ndarray, piece: Histories, part: str) -> None:
    """Hold each sequence of ``piece`` against its owner's events from ``start`` on."""
    first = histories.offsets[owners] + start - piece.offsets[:-1]
    gather = np.arange(len(piece.items)) + np.repeat(first, piece.lengths)
    wrong = histories.items[gather] != piece.items
    if wrong.any():
        event = int(np.argmax(wrong))
        user = int(np.searchsorted(piece.offsets, event, side="right")) - 1
        place = event - int(piece.offsets[user]) + 1
        raise DataError(
            f"{part}: event {place} of user '{piece.user_ids[user]}' is not the one of the full sequence there; "
            "the split shifts or changes events"
        )


def _check_users(split: Split) -> None:
    parts = {"training": split.train, "validation": split.validation.histories, "test": split.test.histories}
    for first, second in (("training", "test"), ("training", "validation"), ("validation", "test")):
        rows = parts[first].rows(parts[second].user_ids)
        if (rows >= 0).any():
            user = parts[second].user_ids[int(np.argmax(rows >= 0))]
            raise DataError(f"leak: user '{user}' is in {first} and in {second}; protocol users keeps them apart")


def _owners(histories: Histories, piece: Histories, part: str) -> np.ndarray:
    """Number of each user of ``piece`` in ``histories``; a sequence longer than its owner's is an error."""
    rows = histories.rows(piece.user_ids)
    if (rows < 0).any():
        raise DataError(f"{part}: user '{piece.user_ids[int(np.argmax(rows < 0))]}' is not in the full histories")
    longer = piece.lengths > histories.lengths[rows]
    if longer.any():
        user = int(np.argmax(longer))
        raise DataError(f"{part}: user '{piece.user_ids[user]}' has more events than in the full histories")
    return rows


def _first(mask: np.ndarray) -> tuple[int, int]:
    row, column = np.unravel_index(int(np.argmax(mask)), mask.shape)
    return int(row), int(column)


def _where(user: int, place: int, user_ids: Sequence[str] | pl.Series | None) -> str:
    name = f"user number {user}" if user_ids is None else f"user '{user_ids[user]}'"
    return f"list of {name}, place {place + 1}"
