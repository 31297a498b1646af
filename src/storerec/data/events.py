"""Encoding events batch by batch, so that millions of them never lie in memory as text."""

from __future__ import annotations

import warnings

import numpy as np
import polars as pl

from storerec.data.catalogue import Catalogue, lookup
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


class EventCollector:
    """Takes batches of (user id, item id, time) in file order and ends with CSR arrays.

    Memory per kept event: 4 bytes user number, 4 bytes item row, 8 bytes time, and 8 bytes for the final
    order.
    """

    def __init__(self, catalogue: Catalogue, *, unknown: str = "drop", source: str = "events") -> None:
        self._catalogue, self._unknown, self._source = catalogue, unknown, source
        self._known = pl.DataFrame(schema={"id": pl.String, "row": pl.Int64})
        self._pending: list[pl.Series] = []
        self._users: list[np.ndarray] = []
        self._items: list[np.ndarray] = []
        self._times: list[np.ndarray] = []
        self._seen = 0
        self._dropped = 0
        self._examples: list[str] = []

    def add(self, users: pl.Series, items: pl.Series, times: np.ndarray | None) -> None:
        """Add one batch; ids are non-empty String, times (m,) numbers or None where rows are in time
        order.

        Raises
        ------
        DataError
            An item is unknown and the policy is "error".
        """
        rows = self._catalogue.rows(items)
        kept = rows >= 0
        self._seen += len(rows)
        if not kept.all():
            self._note_unknown(items.filter(pl.Series(~kept)))
            users, rows = users.filter(pl.Series(kept)), rows[kept]
            times = None if times is None else times[kept]
        self._pending.append(users)
        if sum(map(len, self._pending)) >= _PENDING:
            self._encode_pending()
        self._items.append(rows.astype(np.int32))
        if times is not None:
            self._times.append(times)

    def _note_unknown(self, ids: pl.Series) -> None:
        if self._unknown == "error":
            raise DataError(f"{self._source}: item '{ids[0]}' is not in the catalogue ({len(ids)} such events so far)")
        self._dropped += len(ids)
        if len(self._examples) < 3:
            distinct = ids.unique(maintain_order=True).head(3).to_list()
            self._examples = list(dict.fromkeys(self._examples + distinct))[:3]

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
        """Order the events and return user ids, offsets (users + 1,) int64 and item rows (events,) int32.

        Raises
        ------
        DataError
            There was no event, or none with a known item.
        """
        examples = ", ".join(repr(example) for example in self._examples)
        if self._seen == 0:
            raise DataError(f"{self._source}: there are no events")
        if self._dropped == self._seen:
            raise DataError(
                f"{self._source}: none of the {self._seen} events names an item of the catalogue, for "
                f"example {examples}; check the item id columns of both files"
            )
        if self._dropped:
            warnings.warn(
                f"{self._source}: {self._dropped} of {self._seen} events were left out, because the "
                f"catalogue lacks their items, for example {examples}",
                StorerecWarning,
                stacklevel=3,
            )
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

    def __init__(self) -> None:
        self._pattern: str | None = None
        """None before the first text, "" for numbers, else the date format."""

    def read(self, column: pl.Series) -> pl.Series:
        """Convert one batch; null where a value is missing or not of the column's kind."""
        dtype = column.dtype
        if dtype == pl.String:
            return self._read_text(column.str.strip_chars())
        if isinstance(dtype, pl.Datetime) or dtype == pl.Date:
            return column.cast(pl.Datetime("us")).dt.epoch("us")
        self._pattern = ""
        if dtype.is_integer():
            return column.cast(pl.Int64, strict=False)
        if dtype.is_float() or dtype.is_decimal():
            return _finite(column.cast(pl.Float64))
        return _nothing(column)

    def _read_text(self, text: pl.Series) -> pl.Series:
        if self._pattern is None:
            self._pattern = _pattern(text.filter(text != "").head(_SAMPLE))
        if self._pattern is None:
            return _nothing(text)
        if self._pattern:
            return text.str.to_datetime(self._pattern, strict=False, time_unit="us").dt.epoch("us")
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
