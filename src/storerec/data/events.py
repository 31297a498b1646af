"""Encoding events batch by batch, so that millions of them never lie in memory as text."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import polars as pl

from storerec.data.catalogue import lookup
from storerec.errors import DataError, StorerecWarning

_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
    "%m/%d/%Y %I:%M:%S %p",
)

_PENDING = 2_000_000  # events whose user ids are kept as text at a time (about 100 MB)

_SAMPLE = 100  # texts looked at to find a column's kind of timestamp


class RowIndex(Protocol):
    """What gives items' row numbers: a :class:`Catalogue`, or a share of one."""

    def rows(self, ids: pl.Series) -> np.ndarray:
        """Look ids up: (m,) int64, -1 where unknown."""
        ...


class UnknownItems:
    """Counts events, and those that are left out because the catalogue lacks their items.

    Attributes
    ----------
    seen, dropped
        Events in all, and those left out.
    examples
        The first 3 distinct ids of those left out.
    """

    def __init__(self, policy: str = "drop", source: str = "events") -> None:
        self._policy, self._source = policy, source
        self.seen = 0
        self.dropped = 0
        self.examples: list[str] = []

    def rows(self, index: RowIndex, items: pl.Series) -> tuple[np.ndarray, np.ndarray]:
        """Look the items of a batch up: their rows (m,) int64, and the mask (m,) of those known.

        Raises
        ------
        DataError
            An item is unknown and the policy is "error".
        """
        rows = index.rows(items)
        known = rows >= 0
        self.seen += len(rows)
        if not known.all():
            ids = items.filter(pl.Series(~known))
            if self._policy == "error":
                raise DataError(
                    f"{self._source}: item '{ids[0]}' is not in the catalogue; "
                    "to leave such events out, use unknown='drop' (--unknown drop)"
                )
            self.add(0, len(ids), ids.unique(maintain_order=True).head(3).to_list())
        return rows, known

    def add(self, seen: int, dropped: int, examples: Sequence[str]) -> None:
        """Count what lies behind what was counted."""
        self.seen += seen
        self.dropped += dropped
        self.examples = list(dict.fromkeys([*self.examples, *examples]))[:3]

    def report(self) -> None:
        """Warn of events left out.

        Raises
        ------
        DataError
            There was no event, or none with a known item.
        """
        examples = ", ".join(repr(example) for example in self.examples)
        if self.seen == 0:
            raise DataError(f"{self._source}: there are no events")
        if self.dropped == self.seen:
            raise DataError(
                f"{self._source}: none of the {self.seen} events names an item of the catalogue, for "
                f"example {examples}; check the item id columns of both files"
            )
        if self.dropped:
            warnings.warn(
                f"{self._source}: {self.dropped} of {self.seen} events were left out, because the "
                f"catalogue lacks their items, for example {examples}",
                StorerecWarning,
                stacklevel=4,
            )


class EventCollector:
    """Takes batches of (user id, item id, time) in file order and ends with CSR arrays."""

    def __init__(self, catalogue: RowIndex, *, unknown: str = "drop", source: str = "events") -> None:
        self._catalogue = catalogue
        self._unknown = UnknownItems(unknown, source)
        self._events = UserEvents()

    def add(self, users: pl.Series, items: pl.Series, times: np.ndarray | None) -> None:
        """Add one batch; ids are non-empty String, times (m,) numbers or None where rows are in time
        order.

        Raises
        ------
        DataError
            An item is unknown and the policy is "error".
        """
        rows, known = self._unknown.rows(self._catalogue, items)
        if not known.all():
            users, rows = users.filter(pl.Series(known)), rows[known]
            times = None if times is None else times[known]
        self._events.add(users, rows, times)

    def finish(self) -> tuple[pl.Series, np.ndarray, np.ndarray]:
        """Order the events and return user ids, offsets (users + 1,) int64 and item rows (events,) int32.

        Raises
        ------
        DataError
            There was no event, or none with a known item.
        """
        self._unknown.report()
        return self._events.finish()


class UserEvents:
    """Gathers events by user.

    Memory per event: 4 bytes user number, 4 bytes item row, 8 bytes time, and 8 bytes for the final order.
    """

    def __init__(self) -> None:
        self._known = pl.DataFrame(schema={"id": pl.String, "row": pl.Int64})
        self._pending: list[pl.Series] = []
        self._users: list[np.ndarray] = []
        self._items: list[np.ndarray] = []
        self._times: list[np.ndarray] = []

    def add(self, users: pl.Series, items: np.ndarray, times: np.ndarray | None) -> None:
        """Add events behind those added before: user ids (m,) String, item rows (m,), times (m,) or None."""
        self._pending.append(users)
        if sum(map(len, self._pending)) >= _PENDING:
            self._encode_pending()
        self._items.append(items.astype(np.int32))
        if times is not None:
            self._times.append(times)

    def _encode_pending(self) -> None:
        # Numbers are given in order of first appearance. Each call joins with all known users, so small
        # batches are gathered first: of ten million events by a million users the joins were half the time.
        if not self._pending:
            return
        users = pl.concat(self._pending)
        self._pending.clear()
        distinct = users.unique(maintain_order=True)
        codes = lookup(self._known, distinct)
        new = np.flatnonzero(codes < 0)
        codes[new] = self._known.height + np.arange(new.size)
        local = pl.DataFrame({"id": distinct, "row": codes})
        self._known = pl.concat([self._known, local[new]])
        self._users.append(lookup(local, users).astype(np.int32))

    def finish(self) -> tuple[pl.Series, np.ndarray, np.ndarray]:
        """Order the events by (user, time, place among those added); users by their first event.

        Returns user ids, offsets (users + 1,) int64 and item rows (events,) int32.
        """
        self._encode_pending()
        users, items = _join(self._users), _join(self._items)
        offsets = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=self._known.height))]).astype(np.int64)
        # Both sorts are stable, so equal times keep the order of the rows.
        order = np.lexsort((_join(self._times), users)) if self._times else np.argsort(users, kind="stable")
        return self._known["id"].alias("user_id"), offsets, items[order]


def _join(parts: list[np.ndarray]) -> np.ndarray:
    # The parts are freed at once: at ten million events each list is tens of megabytes held twice otherwise.
    whole = np.concatenate(parts)
    parts.clear()
    return whole


class Clock:
    """Turns timestamps of one column, batch by batch, into numbers that order alike.

    Integers stay integers (Int64), other finite numbers become Float64, dates and datetimes microseconds
    (Int64). Text is read as numbers if the first usable value is one, else as dates: ISO, or ``11/15/2019
    8:55:22 AM`` as in MIND. One rule serves the whole column: a guess per value could read 1/2 and 2/1
    differently, and would mix seconds with microseconds.
    """

    def __init__(self, pattern: str | None = None) -> None:
        self.pattern = pattern
        """None before the first text, "" for numbers, else the date format."""

    def read(self, column: pl.Series) -> pl.Series:
        """Convert one batch; null where a value is missing or not of the column's kind."""
        dtype = column.dtype
        if dtype == pl.String:
            return self._read_text(column.str.strip_chars())
        if isinstance(dtype, pl.Datetime) or dtype == pl.Date:
            return column.cast(pl.Datetime("us")).dt.epoch("us")
        self.pattern = ""
        if dtype.is_integer():
            return column.cast(pl.Int64, strict=False)
        if dtype.is_float() or dtype.is_decimal():
            return _finite(column.cast(pl.Float64))
        return _nothing(column)

    def _read_text(self, text: pl.Series) -> pl.Series:
        if self.pattern is None:
            self.pattern = _pattern(text.filter(text != "").head(_SAMPLE))
        if self.pattern is None:
            return _nothing(text)
        if self.pattern:
            return text.str.to_datetime(self.pattern, strict=False, time_unit="us").dt.epoch("us")
        whole = text.cast(pl.Int64, strict=False)
        return whole if whole.null_count() == 0 else _finite(text.cast(pl.Float64, strict=False))


def _pattern(sample: pl.Series) -> str | None:
    """Find the kind of the first value that is a time at all; "" for numbers, None where there is none."""
    kinds = {"": _finite(sample.cast(pl.Float64, strict=False))}
    kinds |= {pattern: sample.str.to_datetime(pattern, strict=False) for pattern in _FORMATS}
    firsts = {kind: times.is_not_null().arg_max() for kind, times in kinds.items() if times.is_not_null().any()}
    return min(firsts, key=lambda kind: firsts[kind] or 0, default=None)


def _finite(column: pl.Series) -> pl.Series:
    return column.to_frame().select(pl.when(pl.first().is_finite()).then(pl.first())).to_series()


def _nothing(column: pl.Series) -> pl.Series:
    return pl.Series(column.name, [None] * len(column), dtype=pl.Int64)
