"""Reading a piece of an events table in a worker: good events by the part their users are in, and a report."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import polars as pl
import pyarrow as pa

from storerec.data.catalogue import Catalogue
from storerec.data.events import Clock, UnknownItems
from storerec.data.readers.event_rows import EventBatch, EventColumns, event_batches, sequence_batches
from storerec.data.readers.faults import BadRows
from storerec.data.readers.records import Layout
from storerec.data.readers.rows import RowReader
from storerec.errors import DataError, RowError
from storerec.scale.pieces import Piece
from storerec.scale.shared_ids import SharedIds

PIECE_BITS = 40
"""A row's place in the table: its piece's number above these bits, its own number in its file below."""

_EVENTS = 1 << 20
"""Events gathered before they are handed on."""

SCHEMA = pa.schema([("part", pa.int32()), ("events", pa.large_binary()), ("report", pa.large_string())])


@dataclass
class Report:
    """What a piece had, as UnknownItems and Faults count it; ``floats``: some of its times are no integers."""

    piece: int
    kept: int = 0
    seen: int = 0
    dropped: int = 0
    examples: list[str] = field(default_factory=list)
    bad: int = 0
    first_bad: dict[str, Any] | None = None
    fault: dict[str, Any] | None = None
    floats: bool = False

    def to_json(self) -> str:
        """As text: errors are told by their parts."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Report:
        """What :meth:`to_json` wrote."""
        return cls(**json.loads(text))


def told(error: DataError) -> dict[str, Any]:
    """An error of a table by its parts."""
    if isinstance(error, RowError):
        return {"reason": error.reason, "file": error.file, "line": error.line, "field": error.field}
    return {"text": str(error)}


def untold(parts: dict[str, Any]) -> DataError:
    """The error that :func:`told` took apart."""
    return DataError(parts["text"]) if "text" in parts else RowError(**parts)


@dataclass(frozen=True)
class Reading:
    """How all pieces are read.

    Attributes
    ----------
    name
        What messages call the table.
    columns
        Names of the columns; with ``sequences`` only that of the users is used.
    sequences
        The column of item ids where there is one row per user.
    decided, pattern
        The first piece behind which the kind of the times is known, and the kind, as in :class:`Clock`.
    parts
        Number of parts that the users are divided into.
    """

    name: str
    layout: Layout
    encoding: str
    bad_rows: BadRows
    unknown: str
    columns: EventColumns
    sequences: str | None
    decided: int
    pattern: str | None
    parts: int

    def read(self, piece: Piece, number: int, ids: SharedIds) -> Iterator[pa.Table]:
        """Read a piece, which has this number: tables of ``SCHEMA`` with events by part, and at the end the report."""
        report = Report(number)
        known = _KnownItems(ids, UnknownItems(self.unknown, self.name), report)
        gathered: list[pl.DataFrame] = []
        reader: RowReader | None = None
        try:
            reader = self.reader(piece)
            for frame in self._frames(reader, known):
                gathered.append(frame)
                if sum(one.height for one in gathered) >= _EVENTS:
                    yield _by_part(gathered, self.parts)
                    gathered = []
        except DataError as error:
            report.fault = told(error)
        else:
            if gathered:
                yield _by_part(gathered, self.parts)
        known.told()
        if reader is not None:
            first = reader.faults.first
            report.bad, report.first_bad = reader.faults.count, None if first is None else told(first)
        yield pa.table({"part": [-1], "events": [None], "report": [report.to_json()]}, schema=SCHEMA)

    def reader(self, piece: Piece) -> RowReader:
        """Open a piece; DataError where this node does not see its file, or it cannot be read."""
        file = piece.file
        if file.local and not Path(file.path).exists():
            raise DataError(
                f"{file}: not on every node of the cluster; put the table into a folder that all nodes share, or into "
                "an object store"
            )
        return piece.reader(self.layout, self.encoding, self.bad_rows)

    def _frames(self, reader: RowReader, known: _KnownItems) -> Iterator[pl.DataFrame]:
        """Events of known items as ``user``, ``item``, ``row`` and ``time``; with item -1 the row of a user."""
        if self.sequences is not None:
            for owners, batch in sequence_batches(reader, self.columns.user_id, self.sequences):
                marks = EventBatch(owners.users, pl.Series(), None, owners.records)
                yield pl.concat([_frame(marks, np.full(len(owners.users), -1), known.report.piece), known.of(batch)])
            return
        clock = Clock(self.pattern if known.report.piece > self.decided else None)
        for batch in event_batches(reader, self.columns, clock):
            yield known.of(batch)


class _KnownItems(NamedTuple):
    """Leaves events of unknown items out, and counts."""

    ids: SharedIds
    unknown: UnknownItems
    report: Report

    def of(self, batch: EventBatch) -> pl.DataFrame:
        """The events of known items."""
        rows, known = self.unknown.rows(self.ids, batch.items)
        self.report.kept += int(known.sum())
        self.report.floats |= batch.times is not None and batch.times.dtype.kind == "f"
        frame = _frame(batch, rows, self.report.piece)
        return frame if known.all() else frame.filter(pl.Series(known))

    def told(self) -> None:
        """Write what was counted into the report."""
        unknown = self.unknown
        self.report.seen, self.report.dropped, self.report.examples = unknown.seen, unknown.dropped, unknown.examples


def _frame(batch: EventBatch, rows: np.ndarray, piece: int) -> pl.DataFrame:
    columns = {"user": batch.users, "item": rows.astype(np.int32), "row": batch.records + (piece << PIECE_BITS)}
    return pl.DataFrame(columns if batch.times is None else columns | {"time": batch.times})


def _by_part(frames: list[pl.DataFrame], parts: int) -> pa.Table:
    """One row per part of the users, with its events as an Arrow stream."""
    # relaxed: times may be integers in one batch and no integers in another; all of them then become the latter
    frame = pl.concat(frames, how="vertical_relaxed")
    cut = frame.with_columns(part=_part(frame["user"], parts)).partition_by("part", as_dict=True, include_key=False)
    numbers, packed = [], []
    for (part,), events in cut.items():
        target = io.BytesIO()
        events.write_ipc_stream(target, compression="lz4")
        numbers.append(part)
        packed.append(target.getvalue())
    return pa.table({"part": numbers, "events": packed, "report": [None] * len(numbers)}, schema=SCHEMA)


def _part(users: pl.Series, parts: int) -> pl.Series:
    """The part each user is in, (m,) int32: of their ids alone, the same in every process."""
    distinct = users.unique()
    # not polars' hash, which may change from one version or processor to another
    numbers = np.fromiter((crc32(user) for user in distinct.cast(pl.Binary)), np.uint32, len(distinct)) % parts
    known = pl.DataFrame({"user": distinct, "part": numbers.astype(np.int32)})
    return pl.DataFrame({"user": users}).join(known, on="user", how="left", maintain_order="left")["part"]


def read_pieces(batch: pa.Table, shared: Shared, threads: int) -> Iterator[pa.Table]:
    """Ray Data's task: read the pieces whose numbers are in ``id``."""
    import ray

    pa.set_cpu_count(threads)
    reading, ids = ray.get([shared.reading, shared.ids])
    for number in batch["id"].to_pylist():
        chunk: Sequence[Piece] = ray.get(shared.pieces[number // CHUNK])
        yield from reading.read(chunk[number % CHUNK], number, ids)


class Shared(NamedTuple):
    """References to what all tasks need: a Reading, ids, and the pieces in chunks, of which a task opens its own."""

    reading: Any
    ids: Any
    pieces: list[Any]

    @classmethod
    def put(cls, ray: Any, reading: Reading, catalogue: Catalogue, pieces: Sequence[Piece]) -> Shared:
        """Put them into the cluster's object store."""
        chunks = [ray.put(pieces[start : start + CHUNK]) for start in range(0, len(pieces), CHUNK)]
        return cls(ray.put(reading), ray.put(SharedIds.of(catalogue)), chunks)


CHUNK = 1000
"""Pieces that lie together in the object store."""
