"""The Yelp Open Dataset's JSON lines: businesses and reviews."""

from __future__ import annotations

from pathlib import Path

from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories, Unknown
from storerec.data.readers.faults import BadRows
from storerec.data.readers.records import Layout
from storerec.data.readers.rows import RowReader
from storerec.data.readers.tables import collect_events, collect_items
from storerec.errors import DataError

_TEXT = ("name", "city", "address", "state")


def read_yelp(
    folder: Path | str, *, bad_rows: BadRows = "error", unknown: Unknown = "drop"
) -> tuple[Catalogue, Histories]:
    """Read the business and review files of a folder (``*business*.json`` and ``*review*.json``, also with
    .gz).

    Items have the attributes name, city, address and state. Every review is an event, whatever its stars,
    ordered by its date.

    Raises
    ------
    RowError
        A line is no JSON, has no id, or no date.
    DataError
        A file is missing or empty, there are several, or a business id occurs twice.

    Warns
    -----
    StorerecWarning
        Rows were skipped, reviews name unknown businesses, or businesses have no text.
    """
    business, review = (one_file(Path(folder), f"*{kind}*.json*") for kind in ("business", "review"))
    reader = RowReader(business, Layout("json"), bad_rows=bad_rows)
    reader.require(dict.fromkeys(("business_id", *_TEXT), ""))
    catalogue = collect_items(reader, "business_id", text=_TEXT)
    reader = RowReader(review, Layout("json"), bad_rows=bad_rows)
    return catalogue, collect_events(reader, catalogue, "user_id", "business_id", "date", unknown=unknown)


def one_file(folder: Path, pattern: str) -> Path:
    """Find the one file of a folder that fits a pattern; raises :class:`DataError` for none or several."""
    found = sorted(path for path in folder.glob(pattern) if path.is_file())
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(f"{folder}: exactly one file {pattern} is needed; found {names}")
    return found[0]
