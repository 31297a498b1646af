"""What a worker reads at a time: a file, or row groups of a Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pyarrow as pa

from storerec.data.places import File
from storerec.data.readers.arrow import Groups, parquet, parts_of_groups
from storerec.data.readers.faults import BadRows
from storerec.data.readers.records import Layout
from storerec.data.readers.rows import RowReader

_ROWS = 1 << 20
"""Rows of a piece of a Parquet file, at least, where the file has as many; of text files a piece is all of one."""

_FOOTERS = 16
"""Files asked at a time for their row groups: an object store takes tens of milliseconds to answer."""

_TASKS, _TASK_BYTES = 8, 8 << 20
"""Tasks of each worker, at least, and bytes of each task, at most, where there are pieces enough."""

_EVENT_BYTES = {"plain": 24, "packed": 8}
"""Bytes of an event in text, and in a compressed file, to estimate how many there are before they are read."""


class Piece(NamedTuple):
    """A file, or some of its row groups.

    Attributes
    ----------
    file
        The file.
    groups
        Row groups of a Parquet file; None is all of a file.
    rows
        Rows of a Parquet file's row groups; None where nobody knows.
    """

    file: File
    groups: Groups | None = None
    rows: int | None = None

    def reader(self, layout: Layout, encoding: str, bad_rows: BadRows) -> RowReader:
        """Open it; rows are numbered as in its file, from 0."""
        return RowReader(self.file, layout, encoding=encoding, bad_rows=bad_rows, groups=self.groups)


def pieces_of(files: Sequence[File], layout: Layout) -> list[Piece]:
    """Cut files into pieces, in order.

    Text is never cut inside a file: whether a line break ends a row depends on all quotes before it.
    """
    if layout.kind != "parquet":
        return [Piece(file) for file in files]
    with ThreadPoolExecutor(_FOOTERS) as pool:
        return [piece for pieces in pool.map(_parquet_pieces, files) for piece in pieces]


def _parquet_pieces(file: File) -> list[Piece]:
    try:
        with parquet(file) as opened:
            metadata = opened.metadata
            parts = parts_of_groups(metadata)
            sizes = [sum(metadata.row_group(group).num_rows for group in range(*part)) for part in parts]
    except (pa.ArrowException, OSError):
        return [Piece(file)]  # whoever reads it says what is wrong, when all before it is read
    pieces: list[Piece] = []
    for part, rows in zip(parts, sizes, strict=True):
        last = pieces[-1] if pieces else None
        if last is None or last.groups is None or (last.rows or 0) >= _ROWS:
            pieces.append(Piece(file, part, rows))
        else:
            pieces[-1] = Piece(file, (last.groups[0], part[1]), (last.rows or 0) + rows)
    return pieces or [Piece(file, (0, 0), 0)]


def estimated_events(pieces: Sequence[Piece], *, sequences: bool) -> int:
    """About how many events there are; with ``sequences`` a row has several."""
    if not sequences and all(piece.rows is not None for piece in pieces):
        return sum(piece.rows or 0 for piece in pieces)
    sizes = {piece.file.name: piece for piece in pieces}.values()
    packed = [piece.rows is not None or piece.file.zipped for piece in sizes]
    return sum(
        piece.file.size // _EVENT_BYTES["packed" if tight else "plain"]
        for piece, tight in zip(sizes, packed, strict=True)
    )


_MOST_TASKS = 512
"""The shuffle keeps a reference for each pair of tasks, in the program's memory."""


def tasks_of(pieces: Sequence[Piece], workers: int) -> int:
    """Into how many tasks pieces are divided, in order: small files go together, a task for each would take longer."""
    files = {piece.file.name: piece.file.size for piece in pieces}
    return min(len(pieces), max(_TASKS * workers, min(sum(files.values()) // _TASK_BYTES, _MOST_TASKS)))
