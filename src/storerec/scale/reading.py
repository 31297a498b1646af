"""Reading events with Ray Data: pieces of the table in workers, which a shuffle then brings together by user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa

from storerec.data.catalogue import Catalogue
from storerec.data.events import Clock, UnknownItems
from storerec.data.histories import Histories, Unknown
from storerec.data.places import File, Place, name_of, table_files
from storerec.data.readers.arrow import parquet
from storerec.data.readers.event_rows import EventColumns, event_batches, second_row
from storerec.data.readers.faults import BadRows, Faults
from storerec.data.readers.folder import layout_of
from storerec.data.readers.records import Layout
from storerec.errors import DataError, RowError
from storerec.scale.cluster import connected
from storerec.scale.config import RayConfig
from storerec.scale.event_pieces import PIECE_BITS, Reading, Report, Shared, read_pieces, untold
from storerec.scale.pieces import Piece, estimated_events, pieces_of, tasks_of
from storerec.scale.user_parts import Gathered, ordered

_PART_EVENTS = 1 << 20
"""Events of a part of the users, about: what a worker puts in order at a time (a hundred megabytes)."""

_MOST_PARTS = 4096


def read_events(
    config: RayConfig,
    place: Place,
    catalogue: Catalogue,
    *,
    user_id: str = "user_id",
    item_id: str = "item_id",
    timestamp: str | None = "timestamp",
    items: str | None = None,
    layout: Layout | None = None,
    encoding: str = "utf-8",
    bad_rows: BadRows = "error",
    unknown: Unknown = "drop",
) -> Histories:
    """Read events on a Ray cluster; result, arguments, errors and warnings are those of
    :func:`storerec.data.read_events`.

    All nodes must see ``place`` under the same name: a folder that they share, or a URL for which each has
    credentials. This process holds the users' ids and 4 bytes an event, never the events' texts or times.

    Raises
    ------
    MissingExtraError, ConfigError
        As :func:`storerec.scale.cluster.connected`.
    """
    if str(place).startswith("memory://"):
        raise DataError(f"{place}: is in the memory of one process; give a place that all nodes of the cluster see")
    name, files = name_of(place), table_files(place)
    Faults(name, bad_rows)  # tells a policy that there is not
    layout = layout_of(name, files, layout)
    pieces = pieces_of(files, layout)
    parts = -(-estimated_events(pieces, sequences=items is not None) // _PART_EVENTS)
    reading = Reading(
        name=name,
        layout=layout,
        encoding=encoding,
        bad_rows=bad_rows,
        unknown=unknown,
        columns=EventColumns(user_id, item_id, timestamp),
        sequences=items,
        decided=len(pieces),
        pattern=None,
        parts=min(max(parts, config.workers), _MOST_PARTS),
    )
    reading = _with_kind_of_times(reading, pieces)
    with connected(config) as ray:
        return _read(ray, config, reading, catalogue, pieces)


def _with_kind_of_times(reading: Reading, pieces: Sequence[Piece]) -> Reading:
    """Find the kind of times that the first usable one decides for all; what is wrong at the very beginning is raised.

    Mostly that is one batch. Pieces whose times are dates already say nothing, and are not read.
    """
    columns, clock = reading.columns, Clock()
    if reading.sequences is not None or columns.timestamp is None:
        needed = {columns.user_id: "--user-id"}
        needed |= {columns.item_id: "--item-id"} if reading.sequences is None else {reading.sequences: "--sequences"}
        reading.reader(pieces[0]).require(needed)
        return reading
    for number, piece in enumerate(pieces):
        try:
            reader = reading.reader(piece)
            if reader.layout.kind == "parquet" and _has_dates(piece.file, columns.timestamp):
                continue
            for _ in event_batches(reader, columns, clock):
                if clock.pattern is not None:
                    return replace(reading, decided=number, pattern=clock.pattern)
        except DataError:
            if number == 0:
                raise
            break  # a worker finds it too, and whatever may be wrong before it
    return reading


def _has_dates(file: File, column: str) -> bool:
    with parquet(file) as opened:
        names = opened.schema_arrow.names
        return names.count(column) == 1 and pa.types.is_temporal(opened.schema_arrow.field(column).type)


def _read(ray: Any, config: RayConfig, reading: Reading, catalogue: Catalogue, pieces: Sequence[Piece]) -> Histories:
    from ray.data import TaskPoolStrategy

    tasks = tasks_of(pieces, config.workers)
    each: dict[str, Any] = {"num_cpus": config.cpus_per_worker}
    if config.memory_per_worker:
        each["memory"] = config.memory_per_worker
    source = ray.data.range(len(pieces), override_num_blocks=tasks)
    _shuffle_in_tasks(source.context)
    read = source.map_batches(
        read_pieces,
        fn_args=(Shared.put(ray, reading, catalogue, pieces), max(1, int(config.cpus_per_worker))),
        batch_size=None,
        batch_format="pyarrow",
        compute=TaskPoolStrategy(size=min(config.workers, tasks)),
        **each,
    ).materialize()
    faults, unknown, reports = _heard(reading, len(pieces), read)
    kept = sum(report.kept for report in reports)
    gathered = Gathered()
    if kept or reading.sequences is not None:
        floats = any(report.floats for report in reports)
        users = read.groupby("part").map_groups(partial(ordered, floats=floats), batch_format="pyarrow", **each)
        for table in users.iter_batches(batch_size=None, batch_format="pyarrow"):
            gathered.add(table)
    if gathered.second_row is not None:
        place, user = gathered.second_row
        reader = reading.reader(pieces[place >> PIECE_BITS])
        raise second_row(reader, place & ((1 << PIECE_BITS) - 1), user, reading.columns.user_id)
    faults.report()
    unknown.report()
    if gathered.events != kept:
        raise RuntimeError(f"{gathered.events} of {kept} events came through the shuffle")
    return gathered.finish()


def _heard(reading: Reading, pieces: int, read: Any) -> tuple[Faults, UnknownItems, list[Report]]:
    """What the pieces tell, in their order; the first one's error is raised."""
    texts = [row["report"] for row in read.select_columns(["report"]).iter_rows() if row["report"] is not None]
    reports = sorted((Report.from_json(text) for text in texts), key=lambda report: report.piece)
    if [report.piece for report in reports] != list(range(pieces)):
        raise RuntimeError(f"{len(reports)} reports came of {pieces} pieces")
    faults, unknown = Faults(reading.name, reading.bad_rows), UnknownItems(reading.unknown, reading.name)
    for report in reports:
        if report.fault is not None:
            raise untold(report.fault)
        first = None if report.first_bad is None else untold(report.first_bad)
        faults.add_later(report.bad, first if isinstance(first, RowError) else None)
        unknown.add(report.seen, report.dropped, report.examples)
    return faults, unknown, reports


def _shuffle_in_tasks(context: Any) -> None:
    """Shuffle by sorting: its tasks' results are made again when they are lost, and any worker runs them.

    Ray's hash shuffle starts workers of its own (9 s for a table of any size), or keeps what it has in actors, which
    take it along when they are lost.
    """
    from ray.data.context import ShuffleStrategy

    context.shuffle_strategy = ShuffleStrategy.SORT_SHUFFLE_PULL_BASED
