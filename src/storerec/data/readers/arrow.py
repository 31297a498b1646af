"""Arrow's streaming readers: fast, in bounded memory, and strict.

A wrong field count, a byte that is not UTF-8, broken JSON or a value of another type is an error here, never
a null. The line of the fault is not known; :mod:`storerec.data.readers.rows` then reads on line by line.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from storerec.data.places import File
from storerec.data.readers.records import Layout

# Bytes parsed at a time: the longest row that can be read here (longer ones are an error, so read slowly).
_BLOCK = 8 << 20

_ROWS = 1 << 18  # of a Parquet file at a time

Groups = tuple[int, int]
"""Row groups of a Parquet file: the first, and the one behind the last."""


def table_batches(
    file: File,
    layout: Layout,
    encoding: str,
    columns: list[str],
    sample: list[dict[str, Any]],
    groups: Groups | None = None,
) -> Iterator[pa.Table] | None:
    """Give the rows in file order, or None where Arrow has no reader for the layout.

    Parameters
    ----------
    file
        The file.
    layout, encoding
        How it is written.
    columns
        The columns wanted; all others are skipped unread, but for JSON's syntax.
    sample
        JSON objects that show the columns' types.
    groups
        The row groups wanted of a Parquet file, as :func:`parts_of_groups` cuts them; None reads all.

    Raises
    ------
    pa.ArrowException, UnicodeError, OSError, EOFError: while iterating, at the first block with a fault.
    """
    if layout.kind == "parquet":
        return _parquet_batches(file, columns, groups)
    if layout.kind == "json":
        schema = _json_schema(sample, columns)
        return None if schema is None else _json_batches(file, encoding, schema)
    if layout.kind == "delimited" and len(layout.separator) == 1:
        return _csv_batches(file, layout, encoding, columns)
    return None


def _stream(file: File, encoding: str) -> pa.NativeFile:
    stream = file.stream()
    return stream if encoding.lower() == "utf-8" else pa.transcoding_input_stream(stream, encoding, "utf-8")


def _csv_batches(file: File, layout: Layout, encoding: str, columns: list[str]) -> Iterator[pa.Table]:
    reader = pyarrow.csv.open_csv(
        _stream(file, encoding),
        read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK, column_names=layout.names),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=layout.separator,
            quote_char=layout.quote or False,
            newlines_in_values=layout.quote is not None,
        ),
        # An empty field stays "", and the texts NA and null stay what they are.
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=columns,
            column_types=dict.fromkeys(columns, pa.large_string()),
            strings_can_be_null=False,
        ),
    )
    for batch in reader:
        yield pa.Table.from_batches([batch])


def _json_batches(file: File, encoding: str, schema: pa.Schema) -> Iterator[pa.Table]:
    reader = pyarrow.json.open_json(
        _stream(file, encoding),
        read_options=pyarrow.json.ReadOptions(block_size=_BLOCK),
        parse_options=pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    )
    for batch in reader:
        batch.validate(full=True)  # Arrow's JSON parser does not look whether texts are UTF-8
        yield pa.Table.from_batches([batch])


def _parquet_batches(file: File, columns: list[str], groups: Groups | None) -> Iterator[pa.Table]:
    with parquet(file) as opened:
        for first, behind in parts_of_groups(opened.metadata, groups):
            wanted = range(first, behind)
            for batch in opened.iter_batches(batch_size=_ROWS, row_groups=wanted, columns=columns):
                yield pa.Table.from_batches([batch])


@contextmanager
def parquet(file: File) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file; raises pa.ArrowException or OSError where it is none."""
    # an object store is asked for what lies near together at once
    with file.anywhere() as source, pq.ParquetFile(source, pre_buffer=not file.local) as opened:
        yield opened


def parts_of_groups(metadata: pq.FileMetaData, groups: Groups | None = None) -> list[Groups]:
    """Cut row groups, all or the ``groups`` given, into parts of as many rows as are read at a time, or a little more.

    No batch reaches over a part's end, so a file that is cut there gives the same batches as when it is read whole.
    """
    first, behind = groups or (0, metadata.num_row_groups)
    parts, rows = [], 0
    for group in range(first, behind):
        rows += metadata.row_group(group).num_rows
        if rows >= _ROWS or group + 1 == behind:
            parts.append((first, group + 1))
            first, rows = group + 1, 0
    return parts


def _json_schema(sample: list[dict[str, Any]], columns: list[str]) -> pa.Schema | None:
    """Give the types that the sample shows; None where it shows several for one key, or nested objects."""
    types = {str: pa.large_string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    fields = []
    for name in columns:
        values = [row[name] for row in sample if row.get(name) is not None]
        kinds = {type(value) for value in values}
        if kinds == {list}:
            if any(type(part) is not str for value in values for part in value):
                return None
            fields.append((name, pa.list_(pa.large_string())))
        elif len(kinds) > 1 or not kinds <= types.keys():
            return None
        else:
            fields.append((name, types[kinds.pop()] if kinds else pa.large_string()))
    return pa.schema(fields)
