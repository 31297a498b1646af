"""From rows of a table to events that may be used, batch by batch: the rules are the same on every engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl

from storerec.data.events import Clock
from storerec.data.readers.folder import TableReader
from storerec.data.readers.rows import RECORD
from storerec.errors import RowError


class EventColumns(NamedTuple):
    """Names of the columns of user ids, item ids and times; None where the rows are in time order."""

    user_id: str
    item_id: str
    timestamp: str | None


class EventBatch(NamedTuple):
    """Events of a batch, in the order of the table.

    Attributes
    ----------
    users, items
        Their ids, (m,) String, not empty.
    times
        (m,) int64 or float64, or None where the rows are in time order.
    records
        Number of each one's row in the table, (m,) int64.
    """

    users: pl.Series
    items: pl.Series
    times: np.ndarray | None
    records: np.ndarray


class Owners(NamedTuple):
    """Users of a batch of rows, one row each: ids (n,) String, and numbers of the rows, (n,) int64."""

    users: pl.Series
    records: np.ndarray


def event_batches(reader: TableReader, columns: EventColumns, clock: Clock) -> Iterator[EventBatch]:
    """Give the good events of a table with one row an event; bad rows go to the reader's ``faults``.

    Raises
    ------
    RowError
        A row is bad, under policy "error".
    DataError
        A file is damaged, or a column is missing.
    """
    flags = {columns.user_id: "--user-id", columns.item_id: "--item-id"}
    flags |= {columns.timestamp: "--timestamp"} if columns.timestamp else {}
    reader.require(flags)
    for batch in reader.batches(list(flags)):
        users, items = _ids(batch[columns.user_id]), _ids(batch[columns.item_id])
        checks = [
            (columns.user_id, "the user id is empty", users == ""),
            (columns.item_id, "the item id is empty", items == ""),
        ]
        times = None
        if columns.timestamp is not None:
            times = clock.read(batch[columns.timestamp])
            fault = "the timestamp is missing or neither a number nor a date"
            checks.append((columns.timestamp, fault, times.is_null()))
        good, records = reader.check(batch, checks), batch[RECORD]
        if not good.all():
            users, items, records = users.filter(good), items.filter(good), records.filter(good)
            times = None if times is None else times.filter(good)
        yield EventBatch(users, items, None if times is None else times.to_numpy(), records.to_numpy())


def sequence_batches(reader: TableReader, user_id: str, items: str) -> Iterator[tuple[Owners, EventBatch]]:
    """Give the users and events of a table with one row a user; errors as :func:`event_batches`.

    An event's row is that of its user.
    """
    reader.require({user_id: "--user-id", items: "--sequences"})
    for batch in reader.batches([user_id, items], lists=[items]):
        ids = _ids(batch[user_id])
        good = reader.check(batch, [(user_id, "the user id is empty", ids == "")])
        rows = pl.DataFrame({"user": ids, "record": batch[RECORD], "item": batch[items]}).filter(good)
        owners = Owners(rows["user"], rows["record"].to_numpy())
        rows = rows.explode("item").filter(pl.col("item").is_not_null() & (pl.col("item") != ""))
        yield owners, EventBatch(rows["user"], rows["item"], None, rows["record"].to_numpy())


def second_row(reader: TableReader, record: int, user: str, user_id: str) -> RowError:
    """The error that a user has a second row, where one row per user is needed."""
    file, line = reader.where(record)
    return RowError(f"user '{user}' has a second row", file=file, line=line, field=user_id)


def _ids(column: pl.Series) -> pl.Series:
    return column.cast(pl.String).fill_null("")
