"""Items and events in tables: csv, tsv, JSON lines or Parquet, chosen by the file's extension."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from storerec.data.catalogue import Catalogue, as_text
from storerec.data.events import Clock, EventCollector
from storerec.data.histories import Histories, Unknown
from storerec.data.readers.records import Layout
from storerec.data.readers.rows import RECORD, BadRows, RowReader
from storerec.errors import DataError, RowError, StorerecWarning

Duplicates = Literal["error", "first"]


def read_items(
    path: Path | str,
    *,
    item_id: str = "item_id",
    text: Sequence[str] | None = None,
    title: str | None = None,
    layout: Layout | None = None,
    encoding: str = "utf-8",
    bad_rows: BadRows = "error",
    duplicates: Duplicates = "error",
) -> Catalogue:
    """Read items, one row each, in the order of the file.

    Parameters
    ----------
    path
        A .csv, .tsv, .jsonl or .parquet file (text also with .gz).
    item_id
        The id column.
    text
        The text columns; None takes all others (of JSON: the keys of the first 100 objects). Columns of other
        types are cast to text.
    title
        The column shown to people; None takes one called title or name, else the first text column.
    layout
        How the rows are written; None goes by the extension.
    encoding
        Of text files; any that extends ASCII.
    bad_rows
        "error" stops at the first unreadable row or empty id, "skip" leaves such rows out and warns.
    duplicates
        "error" stops at an id's second row, "first" keeps the first row and warns.

    Raises
    ------
    RowError
        A bad row, with file, line and field.
    DataError
        The file is missing, empty or has no such column; an id occurs twice.

    Warns
    -----
    StorerecWarning
        Rows were skipped, or items have no text at all (they are kept).
    """
    reader = RowReader(path, layout, encoding=encoding, bad_rows=bad_rows)
    reader.require({item_id: "--item-id"} | dict.fromkeys(text or (), "--text"))
    return collect_items(reader, item_id, text=text, title=title, duplicates=duplicates)


def collect_items(
    reader: RowReader,
    item_id: str,
    *,
    text: Sequence[str] | None = None,
    title: str | None = None,
    duplicates: Duplicates = "error",
) -> Catalogue:
    """Read all rows of an open file into a catalogue; arguments and errors as :func:`read_items`."""
    if duplicates not in ("error", "first"):
        raise DataError(f"duplicates must be 'error' or 'first', not '{duplicates}'")
    # A column without a name is an index that some tool wrote along.
    names = [name for name in reader.names if name not in (item_id, "")] if text is None else list(text)
    reader.require(dict.fromkeys([item_id, *names], ""))
    parts = []
    for batch in reader.batches([item_id, *names]):
        frame = pl.concat([batch.select(RECORD), as_text(batch.select(item_id, *names))], how="horizontal")
        good = reader.check(frame, [(item_id, "the item id is empty", frame[item_id] == "")])
        parts.append(frame.filter(good))
    reader.faults.report()
    if not parts or not (frame := pl.concat(parts)).height:
        raise DataError(f"{reader.path}: there are no items")
    frame = _without_duplicates(reader, frame, item_id, duplicates)
    return Catalogue.from_frame(frame.drop(RECORD), item_id=item_id, text=names, title=title)


def _without_duplicates(reader: RowReader, frame: pl.DataFrame, item_id: str, policy: Duplicates) -> pl.DataFrame:
    first = frame[item_id].is_first_distinct()
    if first.all():
        return frame
    again = frame.filter(~first)
    line, example = reader.line(int(again[RECORD][0])), again[item_id][0]
    if policy == "error":
        raise RowError(f"item id '{example}' occurs a second time", file=str(reader.path), line=line, field=item_id)
    warnings.warn(
        f"{reader.path}: {again.height} rows repeat an item id and were left out, the first '{example}' in line {line}",
        StorerecWarning,
        stacklevel=4,
    )
    return frame.filter(first)


def read_events(
    path: Path | str,
    catalogue: Catalogue,
    *,
    user_id: str = "user_id",
    item_id: str = "item_id",
    timestamp: str | None = "timestamp",
    items: str | None = None,
    layout: Layout | None = None,
    encoding: str = "utf-8",
    bad_rows: BadRows = "error",
    unknown: Unknown = "drop",
) -> Histories:
    """Read events: one row each (user, item, timestamp), or with ``items`` one row per user.

    A user's events are ordered by (timestamp, row); users by the first appearance of a kept event. The file
    is read in batches: ten million rows take well under 2 GiB.

    Parameters
    ----------
    path
        A .csv, .tsv, .jsonl or .parquet file (text also with .gz).
    catalogue
        Gives the items' row numbers.
    user_id, item_id
        The id columns.
    timestamp
        Numbers, dates or datetimes; None when the rows are in time order.
    items
        A column with all of a user's item ids, oldest first: a list (JSON lines, Parquet), or ids divided by
        blanks or commas. Then ``item_id`` and ``timestamp`` are not used.
    layout, encoding, bad_rows
        As in :func:`read_items`; an empty id and a timestamp that is missing or no number or date make a row
        bad.
    unknown
        "drop" leaves events with unknown items out and warns, "error" raises.

    Raises
    ------
    RowError
        A bad row, with file, line and field; with ``items``, a user's second row.
    DataError
        The file is missing, empty or has no such column; an item is unknown and ``unknown`` is "error"; no
        event names a known item.

    Warns
    -----
    StorerecWarning
        Rows were skipped, or events with unknown items left out.
    """
    reader = RowReader(path, layout, encoding=encoding, bad_rows=bad_rows)
    if items is not None:
        return _collect_sequences(reader, catalogue, user_id, items, unknown)
    return collect_events(reader, catalogue, user_id, item_id, timestamp, unknown=unknown)


def collect_events(
    reader: RowReader,
    catalogue: Catalogue,
    user_id: str,
    item_id: str,
    timestamp: str | None,
    *,
    unknown: Unknown,
) -> Histories:
    """Read all events of an open file, one row each; arguments and errors as :func:`read_events`."""
    flags = {user_id: "--user-id", item_id: "--item-id"} | ({timestamp: "--timestamp"} if timestamp else {})
    reader.require(flags)
    collector = EventCollector(catalogue, unknown=unknown, source=str(reader.path))
    clock = Clock()
    for batch in reader.batches(list(flags)):
        users, items = _ids(batch[user_id]), _ids(batch[item_id])
        checks = [
            (user_id, "the user id is empty", users == ""),
            (item_id, "the item id is empty", items == ""),
        ]
        times = None
        if timestamp is not None:
            times = clock.read(batch[timestamp])
            checks.append((timestamp, "the timestamp is missing or neither a number nor a date", times.is_null()))
        good = reader.check(batch, checks)
        if not good.all():
            users, items = users.filter(good), items.filter(good)
            times = None if times is None else times.filter(good)
        collector.add(users, items, None if times is None else times.to_numpy())
    reader.faults.report()
    return Histories(*collector.finish())


def _collect_sequences(
    reader: RowReader, catalogue: Catalogue, user_id: str, items: str, unknown: Unknown
) -> Histories:
    reader.require({user_id: "--user-id", items: "--sequences"})
    collector = EventCollector(catalogue, unknown=unknown, source=str(reader.path))
    numbers, users = [np.empty(0, np.int64)], [pl.Series(dtype=pl.String)]
    for batch in reader.batches([user_id, items], lists=[items]):
        ids = _ids(batch[user_id])
        good = reader.check(batch, [(user_id, "the user id is empty", ids == "")])
        numbers.append(batch[RECORD].filter(good).to_numpy())
        users.append(ids.filter(good))
        rows = pl.DataFrame({"user": users[-1], "item": batch[items].filter(good)})
        rows = rows.explode("item").filter(pl.col("item").is_not_null() & (pl.col("item") != ""))
        collector.add(rows["user"], rows["item"], None)
    every = pl.concat(users)
    again = np.flatnonzero(~every.is_first_distinct().to_numpy())
    if again.size:
        line = reader.line(int(np.concatenate(numbers)[again[0]]))
        fault = f"user '{every[int(again[0])]}' has a second row"
        raise RowError(fault, file=str(reader.path), line=line, field=user_id)
    reader.faults.report()
    return Histories(*collector.finish())


def _ids(column: pl.Series) -> pl.Series:
    return column.cast(pl.String).fill_null("")
