"""Amazon reviews and product metadata: the raw releases of 2014, 2018 and 2023."""

from __future__ import annotations

from pathlib import Path

from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories, Unknown
from storerec.data.readers.faults import BadRows
from storerec.data.readers.records import Layout, records
from storerec.data.readers.rows import RowReader
from storerec.data.readers.tables import collect_events, collect_items
from storerec.errors import DataError

_USER = ("reviewerID", "user_id")
_ITEM = ("parent_asin", "asin")
_TIME = ("unixReviewTime", "timestamp")
_TEXT = ("title", "brand", "store", "categories", "category", "description")


def read_amazon(
    reviews: Path | str,
    metadata: Path | str,
    *,
    text: tuple[str, ...] | None = None,
    bad_rows: BadRows = "error",
    unknown: Unknown = "drop",
) -> tuple[Catalogue, Histories]:
    """Read one category's reviews and products.

    Known names: 2014 and 2018 reviewerID, asin, unixReviewTime (s); 2023 user_id, parent_asin, timestamp
    (ms). Where a file has both parent_asin and asin, as the 2023 reviews have, products are the parents, as
    in its metadata. The 2014 metadata are Python literals, one a line; they are parsed as literals, never
    run. Releases repeat products: the first row counts. All reviews are events, whatever their stars.

    Parameters
    ----------
    reviews
        JSON lines (also .gz), or the 2023 release's ratings-only .csv.
    metadata
        JSON lines or Python literals, one product a line (also .gz).
    text
        The attributes; None takes those of title, brand, store, categories, category and description that
        occur in the first 100 products. Lists are joined by ", ".
    bad_rows, unknown
        As in :func:`storerec.data.read_events`.

    Raises
    ------
    RowError
        A bad row, with file, line and field.
    DataError
        A file is missing, empty, or has none of the known names.

    Warns
    -----
    StorerecWarning
        Products are repeated or have no text, rows were skipped, or reviews name unknown products.
    """
    metadata = Path(metadata)
    reader = RowReader(metadata, _metadata_layout(metadata), bad_rows=bad_rows)
    item_id = _name(reader, _ITEM)
    if text is not None:
        reader.require(dict.fromkeys(text, "--text"))
    chosen = text or tuple(name for name in _TEXT if name in reader.names)
    if not chosen:
        raise DataError(f"{metadata}: none of the text columns {', '.join(_TEXT)} is there")
    catalogue = collect_items(reader, item_id, text=chosen, duplicates="first")
    layout = None if ".csv" in Path(reviews).suffixes else Layout("json")
    reader = RowReader(reviews, layout, bad_rows=bad_rows)
    columns = [_name(reader, names) for names in (_USER, _ITEM, _TIME)]
    return catalogue, collect_events(reader, catalogue, *columns, unknown=unknown)


def _name(reader: RowReader, candidates: tuple[str, ...]) -> str:
    found = next((name for name in candidates if name in reader.names), candidates[0])
    reader.require({found: ""})  # also tells an unreadable first row from a file with other names
    return found


def _metadata_layout(path: Path) -> Layout:
    """Tell JSON from Python literals by the first row: the 2014 metadata quote with single marks."""
    if path.is_file():
        for kind in ("json", "literal"):
            first = next(records(path, Layout(kind), "utf-8"), None)
            if first is not None and first.values is not None:
                return Layout(kind)
    return Layout("json")
