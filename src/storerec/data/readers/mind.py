"""MIND, the Microsoft News Dataset, as unpacked: ``news.tsv`` and ``behaviors.tsv``, both without a
header.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories, Unknown
from storerec.data.readers.faults import BadRows
from storerec.data.readers.records import Layout
from storerec.data.readers.rows import RowReader
from storerec.data.readers.tables import collect_items
from storerec.errors import DataError

_NEWS = (
    "item_id",
    "category",
    "subcategory",
    "title",
    "abstract",
    "url",
    "title_entities",
    "abstract_entities",
)
_BEHAVIORS = ("impression", "user_id", "time", "history", "impressions")


def read_mind(
    folder: Path | str, *, bad_rows: BadRows = "error", unknown: Unknown = "drop"
) -> tuple[Catalogue, Histories]:
    """Read one unpacked MIND folder (for instance MINDsmall_train).

    Items have the attributes title, abstract, category and subcategory. A user's sequence is the ``history``
    column, clicks in time order; a user's rows all repeat it, so the first that is not empty counts. Users
    whose history is empty are left out.

    Raises
    ------
    RowError
        A row has a wrong number of fields, no id, or bytes that are not UTF-8.
    DataError
        A file is missing or empty, or a news id occurs twice.

    Warns
    -----
    StorerecWarning
        Rows were skipped, histories name unknown news, or news have no text.
    """
    folder = Path(folder)
    reader = RowReader(folder / "news.tsv", _layout(_NEWS), bad_rows=bad_rows)
    catalogue = collect_items(reader, "item_id", text=("title", "abstract", "category", "subcategory"))
    reader = behaviors(folder, bad_rows)
    parts = []
    for batch in reader.batches(["user_id", "history"]):
        good = reader.check(batch, [("user_id", "the user id is empty", batch["user_id"] == "")])
        rows = batch.filter(good & (batch["history"].str.strip_chars() != ""))
        parts.append(rows.select("user_id", "history").unique("user_id", keep="first", maintain_order=True))
    reader.faults.report()
    if not parts or not (users := pl.concat(parts).unique("user_id", keep="first", maintain_order=True)).height:
        raise DataError(f"{reader.path}: no user has a history")
    source = str(reader.path)
    return catalogue, Histories.from_sequences(users, catalogue, items="history", unknown=unknown, source=source)


def behaviors(folder: Path, bad_rows: BadRows) -> RowReader:
    """Open ``behaviors.tsv`` of an unpacked folder: impression, user_id, time, history, impressions."""
    return RowReader(folder / "behaviors.tsv", _layout(_BEHAVIORS), bad_rows=bad_rows)


def _layout(names: tuple[str, ...]) -> Layout:
    # Titles carry bare quotation marks as text; a reader that honours them swallows whole lines.
    return Layout("delimited", "\t", quote=None, names=names)
