"""The items of a shop: external ids and text attributes; an item's row number is its identity inside the
package.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from storerec.data.id_index import IdIndex
from storerec.errors import DataError, StorerecWarning
from storerec.storage import atomic

_ROW_GROUP = 8192
"""Rows of a file that are read together: who encodes a thousand items does not unpack a million."""

_TITLE_KEY = b"storerec.title_attribute"
_MOST_CHUNKS = 64
_TITLE_NAMES = ("title", "name", "movie_title", "product_title")


class Catalogue:
    """Items in a fixed order, each with a unique id and text attributes.

    The order is that of the frame given (for files: first appearance in the file) and never changes; row
    ``i`` is item ``i`` everywhere in the package.

    Attributes
    ----------
    frame
        ``item_id`` (String, unique, non-empty) and one String column per attribute, without nulls; n rows.
    attributes
        Names of the text attributes, in column order.
    title_attribute
        The attribute shown to people.
    """

    def __init__(self, frame: pl.DataFrame, title_attribute: str) -> None:
        """Take a frame in final form; use :meth:`from_frame` for anything else."""
        self.frame = frame
        self.attributes: tuple[str, ...] = tuple(name for name in frame.columns if name != "item_id")
        self.title_attribute = title_attribute

    @classmethod
    def from_frame(
        cls,
        frame: pl.DataFrame,
        *,
        item_id: str = "item_id",
        text: Sequence[str] | None = None,
        title: str | None = None,
    ) -> Self:
        """Build a catalogue from a table with one row per item.

        Parameters
        ----------
        frame
            One row per item; columns of any type, cast to text (lists are joined by ", "; null becomes "").
        item_id
            The id column.
        text
            The text attributes, in order; None takes all other columns.
        title
            The attribute shown to people; None takes one called title or name, else the first.

        Raises
        ------
        DataError
            A column is missing, there is no attribute or no item, or an id is empty or occurs twice.

        Warns
        -----
        StorerecWarning
            Items whose attributes are all empty (they are kept).
        """
        frame, title = _normalise(frame, item_id, text, title)
        _check_ids(frame["item_id"])
        _warn_without_text(frame)
        return cls(frame, title)

    def __len__(self) -> int:
        """Count the items."""
        return self.frame.height

    def __repr__(self) -> str:
        """Say size, attributes and title attribute."""
        return f"Catalogue({len(self)} items, attributes={self.attributes}, title={self.title_attribute!r})"

    @property
    def ids(self) -> pl.Series:
        """The external ids, (n,) String."""
        return self.frame["item_id"]

    @property
    def titles(self) -> pl.Series:
        """The title attribute, (n,) String."""
        return self.frame[self.title_attribute]

    def attribute(self, name: str) -> pl.Series:
        """Return one attribute's texts, (n,) String; raises :class:`DataError` for an unknown name."""
        if name not in self.attributes:
            raise DataError(f"the catalogue has no attribute '{name}'; it has {', '.join(self.attributes)}")
        return self.frame[name]

    @cached_property
    def _index(self) -> IdIndex:
        return IdIndex(self.ids)

    def rows(self, ids: pl.Series | Iterable[str]) -> np.ndarray:
        """Look ids up: (m,) int64 row numbers, -1 where an id is unknown or null."""
        return self._index.rows(ids)

    def concat(self, other: Catalogue) -> Catalogue:
        """Append the items of ``other``; rows of this catalogue stay what they are.

        Raises
        ------
        DataError
            The attributes differ, or an id occurs in both.
        """
        if set(other.attributes) != set(self.attributes):
            raise DataError(
                f"catalogues with different attributes cannot be joined: {', '.join(self.attributes)} "
                f"and {', '.join(other.attributes)}"
            )
        again = np.flatnonzero(self.rows(other.ids) >= 0)
        if again.size:
            raise DataError(f"item id '{other.ids[int(again[0])]}' occurs in both catalogues")
        frame = pl.concat([self.frame, other.frame.select(self.frame.columns)])
        if frame.n_chunks() > _MOST_CHUNKS:  # each look-up goes through all of them
            frame = frame.rechunk()
        whole = Catalogue(frame, self.title_attribute)
        whole.__dict__["_index"] = self._index.joined(whole.ids)  # where cached properties live
        return whole

    def replaced(self, rows: np.ndarray, items: Catalogue) -> Catalogue:
        """Give the items at ``rows`` (m,) the texts of ``items`` (m of them, of the same ids); ids and rows stay."""
        at = pl.Series(rows, dtype=pl.UInt32)
        texts = [self.frame[name].scatter(at, items.frame[name]) for name in self.attributes]
        whole = Catalogue(self.frame.with_columns(texts), self.title_attribute)
        whole.__dict__["_index"] = self._index  # where cached properties live
        return whole

    def select(self, rows: np.ndarray) -> Catalogue:
        """Return a catalogue of the given rows (integers or a mask), in the order given."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        return Catalogue(self.frame[rows], self.title_attribute)

    def write_parquet(self, path: Path | str) -> None:
        """Write to a Parquet file, atomically; the title attribute goes into the schema's metadata."""
        table = self.frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        table = table.replace_schema_metadata({_TITLE_KEY: self.title_attribute.encode()})
        with atomic(path) as temporary:
            pq.write_table(table, temporary, compression="zstd", row_group_size=_ROW_GROUP)

    @classmethod
    def read_parquet(cls, path: Path | str, part: slice | None = None) -> Self:
        """Read what :meth:`write_parquet` wrote, or a part of its rows; raises :class:`DataError` when the file is
        missing or another.
        """
        title = _title_in(path)
        if part is not None:
            lazy = pl.scan_parquet(path).slice(part.start, part.stop - part.start)
            return cls(lazy.collect(), title)
        frame = pl.from_arrow(read_arrow(path))
        assert isinstance(frame, pl.DataFrame)  # a table always becomes a frame; from_arrow is typed for arrays too
        return cls(frame, title)

    @staticmethod
    def attributes_in(path: Path | str) -> tuple[str, ...]:
        """Attributes of a catalogue's file, whose rows are not read; raises as :meth:`read_parquet`."""
        _title_in(path)
        return tuple(name for name in pq.read_schema(path).names if name != "item_id")


def read_arrow(path: Path | str) -> pa.Table:
    """Read a Parquet file; raises :class:`DataError` when it is missing or damaged."""
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file")
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error})") from None


def _title_in(path: Path | str) -> str:
    """The title attribute that a catalogue's file names; DataError for another file."""
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file")
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error})") from None
    metadata = schema.metadata or {}
    if _TITLE_KEY not in metadata or "item_id" not in schema.names:
        raise DataError(f"{path}: not a catalogue written by storerec")
    return metadata[_TITLE_KEY].decode()


def lookup(index: pl.DataFrame, ids: pl.Series | Iterable[str]) -> np.ndarray:
    """Look ids up in a frame of ``id`` (String, unique) and ``row``: (m,) int64, -1 where unknown or null."""
    series = ids if isinstance(ids, pl.Series) else pl.Series(list(ids), dtype=pl.String)
    wanted = pl.DataFrame({"id": series.cast(pl.String)})
    found = wanted.join(index, on="id", how="left", maintain_order="left")
    return found["row"].cast(pl.Int64).fill_null(-1).to_numpy(writable=True)


def as_text(frame: pl.DataFrame) -> pl.DataFrame:
    """Cast all columns to String: lists joined by ", ", structs as JSON, null as ""."""
    columns = []
    for name, dtype in frame.schema.items():
        column = pl.col(name)
        if isinstance(dtype, pl.Array):
            column, dtype = column.arr.to_list(), pl.List(dtype.inner)
        if isinstance(dtype, pl.List):
            column = column.list.eval(pl.element().cast(pl.String)).list.join(", ", ignore_nulls=True)
        elif isinstance(dtype, pl.Struct):
            column = column.struct.json_encode()
        columns.append(column.cast(pl.String).fill_null(""))
    try:
        return frame.select(columns)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"a column cannot be turned into text ({reason}); leave it out with --text") from None


def _normalise(
    frame: pl.DataFrame, item_id: str, text: Sequence[str] | None, title: str | None
) -> tuple[pl.DataFrame, str]:
    if item_id not in frame.columns:
        found = ", ".join(frame.columns)
        raise DataError(f"items have no column '{item_id}'; found {found}; name the id column with --item-id")
    names = [n for n in frame.columns if n != item_id] if text is None else list(dict.fromkeys(text))
    for name in names:
        if name not in frame.columns:
            raise DataError(f"items have no text column '{name}'; found {', '.join(frame.columns)}")
    if not names:
        raise DataError("items have no text column; at least one is needed beside the id")
    if frame.is_empty():
        raise DataError("there are no items")
    if title is None:
        title = next((name for name in _TITLE_NAMES if name in names), names[0])
    elif title not in names:
        raise DataError(f"the title attribute '{title}' is none of the text columns {', '.join(names)}")
    return as_text(frame.select(pl.col(item_id).alias("item_id"), *names)), title


def _check_ids(ids: pl.Series) -> None:
    empty = np.flatnonzero((ids == "").to_numpy())
    if empty.size:
        raise DataError(f"{empty.size} items have an empty id, the first in row {empty[0] + 1}")
    second = np.flatnonzero(~ids.is_first_distinct().to_numpy())
    if second.size:
        raise DataError(f"item id '{ids[int(second[0])]}' occurs twice, the second time in row {second[0] + 1}")


def _warn_without_text(frame: pl.DataFrame) -> None:
    texts = frame.drop("item_id")
    empty = frame.filter(pl.all_horizontal(pl.col(name).str.strip_chars() == "" for name in texts.columns))
    if empty.height:
        warnings.warn(
            f"{empty.height} of {frame.height} items have no text, for example '{empty['item_id'][0]}'; "
            "they are kept, but their codes say nothing about them",
            StorerecWarning,
            stacklevel=3,
        )
