"""Reading a file one row at a time, in Python: slow, but every row knows its line and every fault has a
reason.

The fast readers in :mod:`storerec.data.readers.rows` come here for headers, for files they refuse, and to
name the line of a bad row.
"""

from __future__ import annotations

import ast
import csv
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal, NamedTuple, cast

from storerec.data.places import File, Place, one_file, unreadable
from storerec.errors import DataError

_SUFFIXES = {
    ".csv": ("delimited", ","),
    ".tsv": ("delimited", "\t"),
    ".jsonl": ("json", ""),
    ".ndjson": ("json", ""),
    ".json": ("json", ""),
    ".parquet": ("parquet", ""),
    ".pq": ("parquet", ""),
}

_LONGEST_FIELD = 16 << 20  # characters; a quote left open stops here instead of taking in the whole file


@dataclass(frozen=True)
class Layout:
    """How the rows of a file are written.

    Attributes
    ----------
    kind
        Delimited text, one JSON object a line, one Python literal dict a line, or Parquet.
    separator
        Between fields of delimited text; may be longer than one character.
    quote
        The quote character of delimited text; None takes quotes literally.
    names
        Column names of delimited text without a header line; None where the first line has them.
    """

    kind: Literal["delimited", "json", "literal", "parquet"]
    separator: str = ","
    quote: str | None = '"'
    names: tuple[str, ...] | None = None

    @classmethod
    def of(cls, path: PurePath | str | File) -> Layout:
        """Choose by the file's extension (a further .gz is allowed for text); raises :class:`DataError`."""
        suffixes = [suffix.lower() for suffix in PurePath(str(path)).suffixes]
        zipped = bool(suffixes) and suffixes[-1] == ".gz"
        suffix = (suffixes[:-1] if zipped else suffixes)[-1:] or [""]
        kind, separator = _SUFFIXES.get(suffix[0], ("", ""))
        if not kind or (zipped and kind == "parquet"):
            known = ", ".join(_SUFFIXES)
            raise DataError(f"{path}: unknown kind of file; its name must end with one of {known} (or .gz after text)")
        return cls(cast(Literal["delimited", "json", "parquet"], kind), separator)


class Record(NamedTuple):
    """One row: its 1-based line and either its values or the reason why there are none."""

    line: int
    values: dict[str, Any] | None
    fault: str = ""


def check_file(file: File, encoding: str) -> str:
    """Return the encoding's plain name; raises :class:`DataError` for an empty file or a wide encoding."""
    if file.size == 0:
        raise DataError(f"{file}: the file is empty")
    encoding = "utf-8" if encoding.lower().replace("_", "-") in ("utf8", "utf-8-sig") else encoding
    try:
        plain = "\n".encode(encoding) == b"\n"
    except LookupError:
        raise DataError(f"unknown encoding '{encoding}'") from None
    if not plain:
        raise DataError(f"{file}: encoding '{encoding}' is not supported; convert the file to UTF-8")
    return encoding


def lines(file: File, encoding: str) -> Iterator[tuple[int, str, str]]:
    """Give (line number from 1, text with its line end, fault); the fault is "" unless bytes cannot be
    decoded.
    """
    with file.bytes() as stream:
        for number, raw in enumerate(stream, 1):
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")  # a byte order mark is no part of the first column's name
            try:
                yield number, raw.decode(encoding), ""
            except UnicodeDecodeError as error:
                fault = (
                    f"byte 0x{raw[error.start]:02x} at position {error.start + 1} is not {encoding}; "
                    "convert the file to UTF-8 or pass its encoding, for instance encoding='latin-1'"
                )
                yield number, raw.decode(encoding, "replace"), fault


def records(place: Place, layout: Layout, encoding: str) -> Iterator[Record]:
    """Give all rows of a text file in order, blank lines left out; raises :class:`DataError` for a file that cannot
    be read, as a damaged .gz.
    """
    file = one_file(place)
    try:
        if layout.kind != "delimited":
            yield from _object_records(file, layout.kind, encoding)
        else:
            yield from _delimited_records(file, layout, encoding)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: {unreadable(error)}") from None


def header(file: File, layout: Layout, encoding: str) -> list[str]:
    """Read the column names of delimited text; raises :class:`DataError` when there is no line, or none to read."""
    if layout.names is not None:
        return list(layout.names)
    try:
        first = next(_rows(file, layout, encoding), None)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: {unreadable(error)}") from None
    if first is None:
        raise DataError(f"{file}: the file is empty")
    _, row, fault = first
    if fault:
        raise DataError(f"{file}, line 1: {fault}")
    return row


def _delimited_records(file: File, layout: Layout, encoding: str) -> Iterator[Record]:
    names = layout.names
    for line, row, fault in _rows(file, layout, encoding):
        if names is None:
            names = tuple(row)
        elif fault:
            yield Record(line, None, fault)
        elif len(row) != len(names):
            yield Record(line, None, f"{len(row)} fields where {len(names)} are expected")
        else:
            yield Record(line, dict(zip(names, row, strict=True)))


def _rows(file: File, layout: Layout, encoding: str) -> Iterator[tuple[int, list[str], str]]:
    """Give (first line, fields, fault) of each row that is not blank."""
    if layout.quote is None or len(layout.separator) > 1:
        for line, text, fault in lines(file, encoding):
            if stripped := text.rstrip("\r\n"):
                yield line, stripped.split(layout.separator), fault
        return
    # The csv module's limit of 128 KiB would call bad what Arrow reads; it holds for the whole process.
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))
    flaws: list[str] = []

    def feed() -> Iterator[str]:
        for _, text, fault in lines(file, encoding):
            if fault:
                flaws.append(fault)
            yield text

    reader = csv.reader(feed(), delimiter=layout.separator, quotechar=layout.quote)
    while True:
        line = reader.line_num + 1
        try:
            row, fault = next(reader), ""
        except StopIteration:
            return
        except csv.Error as error:
            row, fault = [], f"not readable ({error}); is a quote left open?"
        if flaws:
            fault = flaws[0]
            flaws.clear()
        if row or fault:
            yield line, row, fault


def _object_records(file: File, kind: str, encoding: str) -> Iterator[Record]:
    parse = json.loads if kind == "json" else ast.literal_eval
    what = "JSON" if kind == "json" else "Python"
    for line, text, fault in lines(file, encoding):
        if not text.strip():
            continue
        if fault:
            yield Record(line, None, fault)
            continue
        try:
            values = parse(text.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError | SyntaxError) else str(error)
            yield Record(line, None, f"not valid {what} ({reason})")
            continue
        if isinstance(values, dict):
            yield Record(line, values)
        else:
            yield Record(line, None, f"not a {what} object but a {type(values).__name__}; one object a line is needed")


def as_plain_text(value: Any) -> str | None:
    """Turn a JSON value into text, as a cast of the fast readers does: lists are flattened and joined by
    ", ".
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ", ".join(text for part in value if (text := as_plain_text(part)))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
