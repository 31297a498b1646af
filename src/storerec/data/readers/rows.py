"""Reading big files batch by batch: Arrow first, and line by line from where Arrow refuses.

Arrow's streaming readers are strict: a wrong field count, a byte that is no UTF-8, broken JSON or a value of
another type is an error there, never a null. On such an error reading goes on with
:mod:`storerec.data.readers.records`, which finds the bad line, or accepts what is right but unusual (a JSON
field that is once a number and once a text).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from storerec.data.histories import split_ids
from storerec.data.readers.arrow import table_batches
from storerec.data.readers.records import Layout, Record, as_plain_text, check_file, header, records
from storerec.errors import DataError, RowError, StorerecWarning

BadRows = Literal["error", "skip"]

RECORD = "#record"
"""Column of the batches: the row's number among the readable rows, from 0; :meth:`RowReader.line` gives
its line.
"""

_SLOW_BATCH = 50_000
_SAMPLE = 100  # JSON objects looked at for column names and types


class Faults:
    """Bad rows of one file: the first one raises, or all are counted and reported in one warning."""

    def __init__(self, path: Path, policy: BadRows) -> None:
        if policy not in ("error", "skip"):
            raise DataError(f"bad_rows must be 'error' or 'skip', not '{policy}'")
        self._path, self._policy = path, policy
        self._count = 0
        self._first: RowError | None = None

    def add(self, line: int, reason: str, field: str | None = None, count: int = 1) -> None:
        """Note ``count`` bad rows, the first of them on ``line``; raises :class:`RowError` under policy
        "error".
        """
        error = RowError(reason, file=str(self._path), line=line, field=field)
        if self._policy == "error":
            raise error
        self._count += count
        if self._first is None or line < self._first.line:
            self._first = error

    def add_later(self, count: int) -> None:
        """Note bad rows that lie behind one noted before."""
        self._count += count

    def report(self) -> None:
        """Warn of what was skipped, once the file is read."""
        if self._first is not None:
            text = f"{self._path}: {self._count} bad rows were skipped; the first: {self._first}"
            warnings.warn(text, StorerecWarning, stacklevel=4)


class RowReader:
    """One file: its column names, and its rows in batches.

    Attributes
    ----------
    names
        The columns found (for JSON: the keys of the first 100 objects).
    """

    def __init__(
        self,
        path: Path | str,
        layout: Layout | None = None,
        *,
        encoding: str = "utf-8",
        bad_rows: BadRows = "error",
    ) -> None:
        """Open a file; ``layout`` None goes by its extension.

        Raises
        ------
        DataError
            The file is missing, empty or of unknown kind.
        """
        self.path = Path(path)
        self._encoding = check_file(self.path, encoding)
        self.layout = layout or Layout.of(self.path)
        self.faults = Faults(self.path, bad_rows)
        self._checked_bad = False
        self._sample: list[dict[str, Any]] = []
        self.names = self._find_names()

    def _find_names(self) -> list[str]:
        if self.layout.kind == "parquet":
            try:
                return list(pq.read_schema(self.path).names)
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
                raise RowError(row.fault, file=str(self.path), line=row.line)
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
        done = 0
        fast = table_batches(self.path, self.layout, self._encoding, columns, self._sample)
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
                frame = pl.DataFrame(pl.from_arrow(batch)).with_columns(split_ids_of(lists))
                yield _numbered(frame, done)
                done += frame.height
        yield from self._slow(columns, lists, done)

    def _slow(self, columns: list[str], lists: set[str], done: int) -> Iterator[pl.DataFrame]:
        rows = self._readable(done)
        while part := list(islice(rows, _SLOW_BATCH)):
            data = {name: [as_plain_text(values.get(name)) for values in part] for name in columns if name not in lists}
            frame = pl.DataFrame(data, schema=dict.fromkeys(data, pl.String))
            for name in lists:
                column = pl.Series(name, [_id_list(values.get(name)) for values in part], dtype=pl.List(pl.String))
                frame = frame.with_columns(column)
            yield _numbered(frame, done)
            done += len(part)

    def _readable(self, skip: int) -> Iterator[dict[str, Any]]:
        for row in records(self.path, self.layout, self._encoding):
            if row.values is None:
                self.faults.add(row.line, row.fault)
            elif skip:
                skip -= 1
            else:
                yield row.values

    def line(self, record: int) -> int:
        """Find the line of a row by its ``RECORD`` number; reads the file again, for error texts only."""
        if self.layout.kind == "parquet":
            return record + 1
        row = Record(0, None)
        for row in records(self.path, self.layout, self._encoding):
            if row.values is not None:
                if record == 0:
                    return row.line
                record -= 1
        return row.line

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
                self.faults.add(self.line(int(frame[RECORD][at])), reason, field, count=bad_rows)
        return good


def _numbered(frame: pl.DataFrame, first: int) -> pl.DataFrame:
    return frame.with_columns(pl.int_range(first, first + frame.height, dtype=pl.Int64).alias(RECORD))


def split_ids_of(names: Iterable[str]) -> list[pl.Expr]:
    """Give expressions that turn columns of id lists or of divided ids into List(String)."""
    return [pl.col(name).map_batches(split_ids, return_dtype=pl.List(pl.String)) for name in names]


def _id_list(value: Any) -> list[str]:
    parts = value if isinstance(value, list) else str(value or "").replace(",", " ").split()
    return [text for part in parts if (text := as_plain_text(part))]
