"""Users' time-ordered items, as flat arrays: no Python object per user or event."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from storerec.data.catalogue import Catalogue, read_arrow
from storerec.data.events import Clock, EventCollector
from storerec.data.id_index import IdIndex
from storerec.errors import DataError
from storerec.storage import atomic

Unknown = Literal["drop", "error"]

_SLICE = 1 << 19  # events encoded at a time: bounds the memory of the id lookups


class Histories:
    """Item sequences of many users (CSR): user ``u`` has ``items[offsets[u]:offsets[u + 1]]``, oldest
    first.

    Attributes
    ----------
    user_ids
        (users,) String, unique.
    offsets
        (users + 1,) int64, from 0 to the number of events, never falling.
    items
        (events,) int32 rows of the catalogue.
    """

    def __init__(self, user_ids: pl.Series, offsets: np.ndarray, items: np.ndarray) -> None:
        """Take arrays in final form; use :meth:`from_arrays` for arrays that need checks."""
        self.user_ids, self.offsets, self.items = user_ids, offsets, items

    @classmethod
    def from_arrays(cls, user_ids: pl.Series | Iterable[str], offsets: np.ndarray, items: np.ndarray) -> Self:
        """Build from CSR arrays.

        Raises
        ------
        DataError
            The offsets do not fit the users and items, an item row is negative, or a user id is empty, null
            or occurs twice.
        """
        ids = user_ids if isinstance(user_ids, pl.Series) else pl.Series(list(user_ids), dtype=pl.String)
        ids = ids.cast(pl.String).alias("user_id")
        offsets, items = np.ascontiguousarray(offsets, np.int64), np.ascontiguousarray(items, np.int32)
        if offsets.shape != (len(ids) + 1,) or offsets[0] != 0 or offsets[-1] != items.size:
            raise DataError(f"offsets {offsets.shape} do not fit {len(ids)} users and {items.size} events")
        if (np.diff(offsets) < 0).any() or (items < 0).any():
            raise DataError("offsets must not fall and item rows must not be negative")
        if ids.null_count() or (ids == "").any() or ids.n_unique() != len(ids):
            raise DataError("user ids must be unique and not empty")
        return cls(ids, offsets, items)

    @classmethod
    def from_events(
        cls,
        events: pl.DataFrame | pl.LazyFrame,
        catalogue: Catalogue,
        *,
        user_id: str = "user_id",
        item_id: str = "item_id",
        timestamp: str | None = "timestamp",
        unknown: Unknown = "drop",
        source: str = "events",
    ) -> Self:
        """Build from a table of events, one row each.

        A user's events are ordered by (timestamp, row), so equal timestamps keep the order of the table.
        Users are ordered by the first appearance of one of their kept events in the table. Repeated items are
        kept.

        Parameters
        ----------
        events
            Rows in any order.
        catalogue
            Gives the items' row numbers.
        user_id, item_id
            Id columns; any type, compared as text.
        timestamp
            A column of numbers, numbers as text, dates or datetimes; None means that the rows are in time
            order.
        unknown
            What to do with item ids the catalogue lacks: leave the event out and warn, or raise.
        source
            What messages call the table.

        Raises
        ------
        DataError
            A column is missing; an id is null or empty; a timestamp is missing or no number or date; an item
            is unknown and ``unknown`` is "error"; no event is left.

        Warns
        -----
        StorerecWarning
            Events with unknown items were left out (with their count and up to 3 ids).
        """
        columns = {user_id: "--user-id", item_id: "--item-id"} | ({timestamp: "--timestamp"} if timestamp else {})
        names = events.collect_schema().names()
        for name, flag in columns.items():
            if name not in names:
                raise DataError(f"events have no column '{name}'; found {', '.join(names)}; name it with {flag}")
        lazy = events.lazy().select(list(columns))
        frame = lazy.collect(engine="streaming") if isinstance(events, pl.LazyFrame) else lazy.collect()
        collector = EventCollector(catalogue, unknown=unknown, source=source)
        users, items = _ids(frame, user_id), _ids(frame, item_id)
        times = None if timestamp is None else _times(frame[timestamp])
        for start in range(0, frame.height, _SLICE):
            part = slice(start, start + _SLICE)
            collector.add(users[part], items[part], None if times is None else times[part])
        return cls(*collector.finish())

    @classmethod
    def from_sequences(
        cls,
        frame: pl.DataFrame,
        catalogue: Catalogue,
        *,
        user_id: str = "user_id",
        items: str = "items",
        unknown: Unknown = "drop",
        source: str = "events",
    ) -> Self:
        """Build from a table with one row per user; a user without any known item is left out.

        Parameters
        ----------
        frame
            Users in the order wanted.
        catalogue
            Gives the items' row numbers.
        user_id
            The id column; unique.
        items
            A list column of item ids, or text of item ids divided by blanks or commas, oldest first.
        unknown, source
            As in :meth:`from_events`.

        Raises
        ------
        DataError
            As in :meth:`from_events`, or a user occurs twice.
        """
        for name, flag in ((user_id, "--user-id"), (items, "--sequences")):
            if name not in frame.columns:
                raise DataError(f"sequences have no column '{name}'; found {', '.join(frame.columns)}; use {flag}")
        users = _ids(frame, user_id)
        if users.n_unique() != len(users):
            raise DataError(f"user '{users.filter(users.is_duplicated())[0]}' occurs twice; one row per user is needed")
        lists = frame.select(pl.lit(users).alias("user_id"), split_ids(frame[items]).alias("item_id"))
        collector = EventCollector(catalogue, unknown=unknown, source=source)
        for part in lists.iter_slices(_SLICE // 16):
            rows = part.explode("item_id").drop_nulls("item_id")
            collector.add(rows["user_id"], rows["item_id"], None)
        return cls(*collector.finish())

    def __len__(self) -> int:
        """Count the users."""
        return len(self.user_ids)

    def __repr__(self) -> str:
        """Say the sizes."""
        return f"Histories({len(self)} users, {self.items.size} events)"

    @property
    def lengths(self) -> np.ndarray:
        """The number of events of each user, (users,) int64."""
        return np.diff(self.offsets)

    def sequence(self, user: int) -> np.ndarray:
        """Return the item rows of user number ``user``, oldest first, (length,) int32 (a view)."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def slice_each(self, start: np.ndarray, stop: np.ndarray) -> Histories:
        """Keep events ``start[u] <= position < stop[u]`` of each user; positions (users,) count from 0."""
        start = np.clip(start, 0, self.lengths)
        lengths = np.clip(np.minimum(stop, self.lengths) - start, 0, None)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        gather = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1] + start - offsets[:-1], lengths)
        return Histories(self.user_ids, offsets, self.items[gather])

    def select(self, users: np.ndarray) -> Histories:
        """Return the given users (numbers, in the order given, or a mask)."""
        users = np.asarray(users)
        users = np.flatnonzero(users) if users.dtype == bool else users.astype(np.int64)
        lengths = self.lengths[users]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        gather = np.arange(offsets[-1]) + np.repeat(self.offsets[users] - offsets[:-1], lengths)
        return Histories(self.user_ids[users], offsets, self.items[gather])

    def tail(self, n: int) -> Histories:
        """Keep the last ``n`` events of each user."""
        return self.slice_each(self.lengths - n, self.lengths)

    @cached_property
    def _index(self) -> IdIndex:
        return IdIndex(self.user_ids)

    def rows(self, ids: pl.Series | Sequence[str]) -> np.ndarray:
        """Look user ids up: (m,) int64 user numbers, -1 where unknown."""
        return self._index.rows(ids)

    def item_counts(self, n_items: int) -> np.ndarray:
        """Count the events of each item, (n_items,) int64."""
        return np.bincount(self.items, minlength=n_items)

    def write_parquet(self, path: Path | str) -> None:
        """Write to a Parquet file, atomically: ``user_id`` and ``items`` (list of catalogue rows), one row
        per user.
        """
        lists = pa.LargeListArray.from_arrays(pa.array(self.offsets), pa.array(self.items))
        users = self.user_ids.to_arrow(compat_level=pl.CompatLevel.oldest())
        with atomic(path) as temporary:
            pq.write_table(pa.table({"user_id": users, "items": lists}), temporary, compression="zstd")

    @classmethod
    def read_parquet(cls, path: Path | str) -> Self:
        """Read what :meth:`write_parquet` wrote; raises :class:`DataError` when the file is missing or
        another.
        """
        table = read_arrow(path)
        if table.column_names != ["user_id", "items"]:
            raise DataError(f"{path}: not histories written by storerec")
        lists = table["items"].combine_chunks()
        users = pl.Series("user_id", table["user_id"], dtype=pl.String)
        lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return cls.from_arrays(users, offsets, lists.flatten().to_numpy(zero_copy_only=False))


def split_ids(column: pl.Series) -> pl.Series:
    """Turn a column of id lists, or of ids divided by blanks or commas in one text, into List(String)."""
    if isinstance(column.dtype, pl.List):
        return column.cast(pl.List(pl.String))
    # Only the separators are removed; an empty text gives an empty list, not a list of one empty id.
    return column.cast(pl.String).fill_null("").str.extract_all(r"[^\s,]+")


def _ids(frame: pl.DataFrame, name: str) -> pl.Series:
    column = frame[name].cast(pl.String)
    if (bad := int(((column == "") | column.is_null()).sum())) > 0:
        raise DataError(f"{bad} rows have an empty '{name}'")
    return column


def _times(column: pl.Series) -> np.ndarray:
    numbers = Clock().read(column)
    if (bad := numbers.null_count()) > 0:
        example = column.filter(numbers.is_null())[0]
        raise DataError(f"{bad} rows have no usable '{column.name}', for example {example!r}")
    return numbers.to_numpy()
