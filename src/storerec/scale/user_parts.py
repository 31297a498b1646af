"""Putting events in order by user: first within parts of the users in workers, then all of them."""

from __future__ import annotations

import io
import tempfile
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from storerec.data.events import UserEvents
from storerec.data.histories import Histories

SCHEMA = pa.schema([("user_id", pa.large_string()), ("first", pa.int64()), ("items", pa.large_list(pa.int32()))])

_CHUNK = 1 << 22
"""Events copied at a time."""


def ordered(group: pa.Table, floats: bool) -> pa.Table:
    """Order a part's events: one row per user, with the place of the first event and the items, oldest first.

    Where a user has a second row in a table with one row per user, there is a row without items, with the place of
    the second one. ``floats``: some times of the table, here or elsewhere, are no integers.
    """
    streams = [io.BytesIO(one) for one in group["events"].to_pylist() if one is not None]
    if not streams:
        return SCHEMA.empty_table()
    # equal places stay in order: they are events of one user's row, which came in one stream
    frame = pl.concat([pl.read_ipc_stream(one) for one in streams], how="vertical_relaxed")
    frame = frame.sort("row", maintain_order=True)
    marks = frame.filter(pl.col("item") < 0)
    again = marks.filter(~marks["user"].is_first_distinct()).unique("user", keep="first", maintain_order=True)
    second = pa.table(
        {
            "user_id": _text(again["user"]),
            "first": again["row"].to_arrow(),
            "items": pa.nulls(again.height, SCHEMA.field("items").type),
        },
        schema=SCHEMA,
    )
    events = frame.filter(pl.col("item") >= 0)
    if not events.height:
        return second
    times = None
    if "time" in events.columns:
        times = events["time"].cast(pl.Float64 if floats else pl.Int64).to_numpy()
    users = UserEvents()
    users.add(events["user"], events["item"].to_numpy(), times)
    ids, offsets, items = users.finish()
    first = events.unique("user", keep="first", maintain_order=True)["row"]
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(items, pa.int32()))
    made = pa.table({"user_id": _text(ids), "first": first.to_arrow(), "items": lists}, schema=SCHEMA)
    return pa.concat_tables([made, second])


def _text(ids: pl.Series) -> Any:
    return ids.to_arrow(compat_level=pl.CompatLevel.oldest())


class Gathered:
    """Takes tables of :func:`ordered` in any order and ends with all users' histories.

    In memory are the users' ids and 16 bytes each; items wait in a file without a name, and take 4 bytes an event when
    all is put together.
    """

    def __init__(self) -> None:
        self._users: list[pl.Series] = []
        self._first: list[np.ndarray] = []
        self._lengths: list[np.ndarray] = []
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - open until all is put together
        self._second: list[tuple[int, str]] = []

    def add(self, table: pa.Table) -> None:
        """Take a table."""
        is_second = table["items"].is_null().to_numpy()
        for row in np.flatnonzero(is_second):
            self._second.append((table["first"][int(row)].as_py(), table["user_id"][int(row)].as_py()))
        table = table.filter(pa.array(~is_second))
        if not table.num_rows:
            return
        lists = table["items"].combine_chunks()
        lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
        self._users.append(pl.Series(table["user_id"], dtype=pl.String))
        self._first.append(table["first"].to_numpy())
        self._lengths.append(lists.value_lengths().to_numpy(zero_copy_only=False))
        self._file.write(np.ascontiguousarray(lists.flatten().to_numpy(zero_copy_only=False)).tobytes())

    @property
    def events(self) -> int:
        """Number of events taken."""
        return int(sum(lengths.sum() for lengths in self._lengths))

    @property
    def second_row(self) -> tuple[int, str] | None:
        """Place of the first row that is a user's second, and the user."""
        return min(self._second, default=None)

    def finish(self) -> Histories:
        """Put all together, users in order of their first events; there must be some."""
        lengths, first = np.concatenate(self._lengths), np.concatenate(self._first)
        order = np.argsort(first)  # no two users have their first event in one row
        users = pl.concat(self._users)
        if users.n_unique() != len(users):
            raise RuntimeError("a user's events came in two parts")
        offsets = np.concatenate([[0], np.cumsum(lengths[order])]).astype(np.int64)
        starts = np.empty(len(order), np.int64)  # where the items of each user go, in the order they came
        starts[order] = offsets[:-1]
        items = np.empty(offsets[-1], np.int32)
        self._file.seek(0)
        ends = np.cumsum(lengths)
        done = 0
        while done < len(lengths):
            before = int(ends[done - 1]) if done else 0
            end = max(done + 1, int(np.searchsorted(ends, before + _CHUNK, side="right")))
            size = lengths[done:end]
            part = np.fromfile(self._file, np.int32, int(size.sum()))
            items[np.arange(len(part)) + np.repeat(starts[done:end] - (ends[done:end] - size - before), size)] = part
            done = end
        self._file.close()
        return Histories(users[order].alias("user_id"), offsets, items)
