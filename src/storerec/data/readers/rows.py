"""Reading big files batch by batch: Arrow first, and line by line from where Arrow refuses.

Arrow's streaming readers are strict: a wrong field count, a byte that is no UTF-8, broken JSON or a value of
another type is an error there, never a null. On such an error reading goes on with
:mod:`storerec.data.readers.records`, which finds the bad line, or accepts what is right but unusual (a JSON
field that is once a number and once a text).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import polars as pl
import pyarrow as pa

from storerec.data.histories import split_ids
from storerec.data.places import Place, one_file
from storerec.data.readers.arrow import Groups, parquet, table_batches
from storerec.data.readers.faults import BadRows, Faults
from storerec.data.readers.records import Layout, Record, as_plain_text, check_file, header, records
from storerec.errors import DataError, RowError

RECORD = "#record"
"""Column of the batches: the row's number among the readable rows, from 0; :meth:`RowReader.where` gives
its file and line.
"""

_SLOW_BATCH = 50_000
_SAMPLE = 100  # JSON objects looked at for column names and types


class RowReader:
    """One file: its column names, and its rows in batches.

    Attributes
    ----------
    path
        The file.
    names
        The columns found (for JSON: the keys of the first 100 objects).
    count
        Readable rows given by :meth:`batches` so far.
    """

    def __init__(
        self,
        path: Place,
        layout: Layout | None = None,
        *,
        encoding: str = "utf-8",
        bad_rows: BadRows = "error",
        start: int = 0,
        groups: Groups | None = None,
    ) -> None:
        """Open a file.

        Parameters
        ----------
        path
            A path, or the URL of a file in an object store.
        layout
            How it is written; None goes by the extension.
        encoding, bad_rows
            As in :func:`storerec.data.read_events`.
        start
            The number of its first row, where files before it belong to the same table.
        groups
            Row groups to read of a Parquet file, which :func:`storerec.data.readers.arrow.parts_of_groups` cut.

        Raises
        ------
        DataError
            The file is missing, empty, cannot be reached, or is of unknown kind.
        """
        self.path = one_file(path)
        self._encoding = check_file(self.path, encoding)
        self.layout = layout or Layout.of(self.path)
        self.faults = Faults(str(self.path), bad_rows)
        self.count = 0
        self._start, self._groups = start, groups
        self._before = 0  # rows of the file in front of the row groups
        self._checked_bad = False
        self._sample: list[dict[str, Any]] = []
        self.names = self._find_names()

    def _find_names(self) -> list[str]:
        if self.layout.kind == "parquet":
            try:
                with parquet(self.path) as opened:
                    if self._groups is not None:
                        before = range(self._groups[0])
                        self._before = sum(opened.metadata.row_group(group).num_rows for group in before)
                    return list(opened.schema_arrow.names)
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"{self.path}: not a readable Parquet file ({error})") from None
        if self.layout.kind == "delimited":
            return header(self.path, self.layout, self._encoding)
        rows = islice(records(self.path, self.layout, self._encoding), _SAMPLE)
        self._sample = [row.values for row in rows if row.values is not None]
        return list(dict.fromkeys(name for values in self._sample for name in values))

    def require(self, columns: Mapping[str, str]) -> None:
        """Check that columns are there; ``columns`` gives for each the flag that renames it.

        Raises
        ------
        DataError
            One is missing; names it, the columns found and the flag.
        RowError
            Not one of the first JSON objects could be read.
        """
        if self.layout.kind in ("json", "literal") and not self._sample:
            for row in islice(records(self.path, self.layout, self._encoding), 1):
                raise self._error(row.line, row.fault)
            raise DataError(f"{self.path}: there are no rows")
        for name, flag in columns.items():
            if name not in self.names:
                found = ", ".join(map(repr, self.names))
                hint = f"; name the right one with {flag}" if flag else ""
                raise DataError(f"{self.path}: no column '{name}'; found {found}{hint}")
            if self.names.count(name) > 1:
                raise DataError(f"{self.path}: column '{name}' occurs twice")

    def batches(self, columns: Sequence[str], *, lists: Iterable[str] = ()) -> Iterator[pl.DataFrame]:
        """Give the rows in file order as frames of ``columns`` and ``RECORD``; broken rows go to
        ``faults``.

        Columns are String, or what JSON and Parquet say they are; columns in ``lists`` are List(String).

        Raises
        ------
        RowError
            A row is broken, under policy "error".
        DataError
            The file is damaged.
        """
        columns, lists = list(dict.fromkeys(columns)), set(lists)
        fast = table_batches(self.path, self.layout, self._encoding, columns, self._sample, self._groups)
        while fast is not None:
            # Only the step into Arrow is guarded: what the consumer raises is not ours to catch.
            try:
                batch = next(fast, None)
            except (pa.ArrowException, UnicodeError, OSError, EOFError) as error:
                if self.layout.kind == "parquet":
                    raise DataError(f"{self.path}: not a readable Parquet file ({error})") from None
                break
            if batch is None:
                return
            if batch.num_rows:
                yield self._numbered(pl.DataFrame(pl.from_arrow(batch)).with_columns(split_ids_of(lists)))
        yield from self._slow(columns, lists)

    def _slow(self, columns: list[str], lists: set[str]) -> Iterator[pl.DataFrame]:
        rows, end = self._readable(self.count), False
        while not end:
            part: list[dict[str, Any]] = []
            fault = None
            try:
                for values in islice(rows, _SLOW_BATCH):
                    part.append(values)
            except DataError as error:
                fault = error  # raised behind the rows before it: one of them may be bad, too
            end = len(part) < _SLOW_BATCH
            if part:
                yield self._numbered(_frame(part, columns, lists))
            if fault is not None:
                raise fault

    def _numbered(self, frame: pl.DataFrame) -> pl.DataFrame:
        first = self._start + self._before + self.count
        self.count += frame.height
        return frame.with_columns(pl.int_range(first, first + frame.height, dtype=pl.Int64).alias(RECORD))

    def _readable(self, skip: int) -> Iterator[dict[str, Any]]:
        for row in records(self.path, self.layout, self._encoding):
            if row.values is None:
                self.faults.add(self._error(row.line, row.fault))
            elif skip:
                skip -= 1
            else:
                yield row.values

    def where(self, record: int) -> tuple[str, int]:
        """Find file and line of a row by its ``RECORD`` number; reads the file again, for error texts only."""
        return str(self.path), self.line(record)

    def line(self, record: int) -> int:
        """Find the line of a row by its ``RECORD`` number; reads the file again."""
        if self.layout.kind == "parquet":
            return record - self._start + 1
        record -= self._start
        row = Record(0, None)
        for row in records(self.path, self.layout, self._encoding):
            if row.values is not None:
                if record == 0:
                    return row.line
                record -= 1
        return row.line

    def _error(self, line: int, reason: str, field: str | None = None) -> RowError:
        return RowError(reason, file=str(self.path), line=line, field=field)

    def check(self, frame: pl.DataFrame, checks: Sequence[tuple[str, str, pl.Series]]) -> pl.Series:
        """Report rows with bad values and return the mask of good rows.

        Parameters
        ----------
        frame
            A batch.
        checks
            (field, reason, mask of bad rows) each.

        Raises
        ------
        RowError
            For the first bad row in file order, under policy "error".
        """
        good = pl.repeat(True, frame.height, dtype=pl.Boolean, eager=True)
        first: tuple[int, str, str] | None = None
        for field, reason, bad in checks:
            if bad.any():
                at = bad.arg_max() or 0
                first = min(first or (at, field, reason), (at, field, reason), key=lambda fault: fault[0])
                good = good & ~bad
        if first is not None:
            at, field, reason = first
            bad_rows = int((~good).sum())
            if self._checked_bad:  # finding a line means reading the file again: once is enough
                self.faults.add_later(bad_rows)
            else:
                self._checked_bad = True
                self.faults.add(self._error(self.line(int(frame[RECORD][at])), reason, field), bad_rows)
        return good


def _frame(rows: list[dict[str, Any]], columns: list[str], lists: set[str]) -> pl.DataFrame:
    data = {name: [as_plain_text(values.get(name)) for values in rows] for name in columns if name not in lists}
    frame = pl.DataFrame(data, schema=dict.fromkeys(data, pl.String))
    for name in lists:
        column = pl.Series(name, [_id_list(values.get(name)) for values in rows], dtype=pl.List(pl.String))
        frame = frame.with_columns(column)
    return frame


def split_ids_of(names: Iterable[str]) -> list[pl.Expr]:
    """Give expressions that turn columns of id lists or of divided ids into List(String)."""
    return [pl.col(name).map_batches(split_ids, return_dtype=pl.List(pl.String)) for name in names]


def _id_list(value: Any) -> list[str]:
    parts = value if isinstance(value, list) else str(value or "").replace(",", " ").split()
    return [text for part in parts if (text := as_plain_text(part))]
