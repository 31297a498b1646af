"""A folder of files, read one after the other as one table."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence

import polars as pl

from storerec.data.places import File, Place, name_of, table_files
from storerec.data.readers.faults import BadRows, Faults
from storerec.data.readers.records import Layout
from storerec.data.readers.rows import RowReader
from storerec.errors import DataError


class FolderReader:
    """Files of one kind as one table; methods and attributes are those of :class:`RowReader`.

    The columns are those of the first file. Messages about a row name its file.
    """

    def __init__(
        self, name: str, files: Sequence[File], layout: Layout, *, encoding: str = "utf-8", bad_rows: BadRows = "error"
    ) -> None:
        """Open the first file; the others are opened when their turn comes."""
        self.path = name
        self.layout = layout
        self.faults = Faults(name, bad_rows)
        self.count = 0
        self._files, self._encoding = files, encoding
        self._required: dict[str, str] = {}
        self._starts: list[int] = []
        self._open = self._opened(0, 0)
        self.names = self._open.names

    def _opened(self, file: int, start: int) -> RowReader:
        policy = self.faults.policy
        return RowReader(self._files[file], self.layout, encoding=self._encoding, bad_rows=policy, start=start)

    def require(self, columns: Mapping[str, str]) -> None:
        """Check that columns are there, in the first file now and in each other before it is read."""
        self._required |= columns
        self._open.require(columns)

    def batches(self, columns: Sequence[str], *, lists: Iterable[str] = ()) -> Iterator[pl.DataFrame]:
        """Give the rows of all files in order, numbered through."""
        lists = tuple(lists)
        for file in range(len(self._files)):
            if file:
                self._open = self._opened(file, self.count)
                self._open.require(self._required)
            self._starts.append(self.count)
            before = self.count
            for batch in self._open.batches(columns, lists=lists):
                self.count = before + self._open.count
                yield batch
            self.faults.add_later(self._open.faults.count, self._open.faults.first)

    def check(self, frame: pl.DataFrame, checks: Sequence[tuple[str, str, pl.Series]]) -> pl.Series:
        """Report rows of the last batch with bad values and return the mask of good rows."""
        return self._open.check(frame, checks)

    def where(self, record: int) -> tuple[str, int]:
        """Find file and line of a row by its ``RECORD`` number."""
        file = bisect_right(self._starts, record) - 1
        return self._opened(file, self._starts[file]).where(record)


TableReader = RowReader | FolderReader


def open_table(
    place: Place, layout: Layout | None = None, *, encoding: str = "utf-8", bad_rows: BadRows = "error"
) -> TableReader:
    """Open a file or a folder; raises as :func:`table_files` and :func:`layout_of`."""
    files = table_files(place)
    name = name_of(place)
    if len(files) == 1 and files[0].name == name:
        return RowReader(files[0], layout, encoding=encoding, bad_rows=bad_rows)
    return FolderReader(name, files, layout_of(name, files, layout), encoding=encoding, bad_rows=bad_rows)


def layout_of(name: str, files: Sequence[File], layout: Layout | None = None) -> Layout:
    """How the files of a table are written, by their extensions where it is not given.

    Raises
    ------
    DataError
        A file is of unknown kind, or the files are of several kinds.
    """
    if layout is not None:
        return layout
    kinds: dict[Layout, File] = {}
    for file in files:
        kinds.setdefault(_kind(name, file), file)
    if len(kinds) > 1:
        one, other = list(kinds.values())[:2]
        raise DataError(
            f"{name}: is a folder with files of several kinds, as {_inner(name, one)} and {_inner(name, other)}; "
            "give one of the files, or a folder with the files of one table"
        )
    return next(iter(kinds))


def _kind(name: str, file: File) -> Layout:
    try:
        return Layout.of(file)
    except DataError:
        if file.name == name:
            raise
        reason = f"is a folder, and {_inner(name, file)} in it is no table"
        raise DataError(f"{name}: {reason}; only .csv, .tsv, .jsonl or .parquet files may be there") from None


def _inner(name: str, file: File) -> str:
    return file.name.removeprefix(name).lstrip("/\\")
