"""Items and events in tables: csv, tsv, JSON lines or Parquet, chosen by the file's extension."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl

from storerec.data.catalogue import Catalogue, as_text
from storerec.data.events import Clock, EventCollector
from storerec.data.histories import Histories, Unknown
from storerec.data.places import Place
from storerec.data.readers.event_rows import EventColumns, event_batches, second_row, sequence_batches
from storerec.data.readers.faults import BadRows
from storerec.data.readers.folder import TableReader, open_table
from storerec.data.readers.records import Layout
from storerec.data.readers.rows import RECORD
from storerec.errors import DataError, RowError, StorerecWarning

Duplicates = Literal["error", "first"]


def read_items(
    path: Place,
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
        A .csv, .tsv, .jsonl or .parquet file (text also with .gz), or a folder of such files of one kind, which are
        read in order of their names; or the URL of either, as ``s3://bucket/items/``.
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
        The file is missing, empty, cannot be reached or has no such column; the folder has files of several kinds;
        an id occurs twice.
    MissingExtraError
        No installed library reads such a URL.

    Warns
    -----
    StorerecWarning
        Rows were skipped, or items have no text at all (they are kept).
    """
    reader = open_table(path, layout, encoding=encoding, bad_rows=bad_rows)
    reader.require({item_id: "--item-id"} | dict.fromkeys(text or (), "--text"))
    return collect_items(reader, item_id, text=text, title=title, duplicates=duplicates)


def collect_items(
    reader: TableReader,
    item_id: str,
    *,
    text: Sequence[str] | None = None,
    title: str | None = None,
    duplicates: Duplicates = "error",
) -> Catalogue:
    """Read all rows of an open table into a catalogue; arguments and errors as :func:`read_items`."""
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


def _without_duplicates(reader: TableReader, frame: pl.DataFrame, item_id: str, policy: Duplicates) -> pl.DataFrame:
    first = frame[item_id].is_first_distinct()
    if first.all():
        return frame
    again = frame.filter(~first)
    (file, line), example = reader.where(int(again[RECORD][0])), again[item_id][0]
    if policy == "error":
        raise RowError(f"item id '{example}' occurs a second time", file=file, line=line, field=item_id)
    place = f"line {line}" if file == str(reader.path) else f"{file}, line {line}"
    warnings.warn(
        f"{reader.path}: {again.height} rows repeat an item id and were left out, the first '{example}' in {place}",
        StorerecWarning,
        stacklevel=4,
    )
    return frame.filter(first)


def read_events(
    path: Place,
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
        A file, a folder or a URL, as in :func:`read_items`.
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
        The file is missing, empty, cannot be reached or has no such column; the folder has files of several kinds;
        an item is unknown and ``unknown`` is "error"; no event names a known item.
    MissingExtraError
        No installed library reads such a URL.

    Warns
    -----
    StorerecWarning
        Rows were skipped, or events with unknown items left out.
    """
    reader = open_table(path, layout, encoding=encoding, bad_rows=bad_rows)
    if items is not None:
        return _collect_sequences(reader, catalogue, user_id, items, unknown)
    return collect_events(reader, catalogue, user_id, item_id, timestamp, unknown=unknown)


def collect_events(
    reader: TableReader,
    catalogue: Catalogue,
    user_id: str,
    item_id: str,
    timestamp: str | None,
    *,
    unknown: Unknown,
) -> Histories:
    """Read all events of an open table, one row each; arguments and errors as :func:`read_events`."""
    collector = EventCollector(catalogue, unknown=unknown, source=str(reader.path))
    for batch in event_batches(reader, EventColumns(user_id, item_id, timestamp), Clock()):
        collector.add(batch.users, batch.items, batch.times)
    reader.faults.report()
    return Histories(*collector.finish())


def _collect_sequences(
    reader: TableReader, catalogue: Catalogue, user_id: str, items: str, unknown: Unknown
) -> Histories:
    collector = EventCollector(catalogue, unknown=unknown, source=str(reader.path))
    numbers, users = [np.empty(0, np.int64)], [pl.Series(dtype=pl.String)]
    for owners, batch in sequence_batches(reader, user_id, items):
        numbers.append(owners.records)
        users.append(owners.users)
        collector.add(batch.users, batch.items, None)
    every = pl.concat(users)
    again = np.flatnonzero(~every.is_first_distinct().to_numpy())
    if again.size:
        raise second_row(reader, int(np.concatenate(numbers)[again[0]]), every[int(again[0])], user_id)
    reader.faults.report()
    return Histories(*collector.finish())
