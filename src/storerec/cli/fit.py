"""``storerec fit``: from tables of items and events to a bundle, in a run folder."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from storerec.cli import engine as engines
from storerec.cli import options
from storerec.cli.ending import verb
from storerec.cli.output import code_tables, show
from storerec.cli.tables import Tables


class BadRows(StrEnum):
    """What to do with rows that cannot be read."""

    error = "error"
    skip = "skip"


class Unknown(StrEnum):
    """What to do with events of items that the catalogue lacks."""

    drop = "drop"
    error = "error"


OutOption = Annotated[
    Path,
    typer.Option("--out", metavar="RUN", help="Run folder to make, or to go on with.", show_default=False),
]
_PLACE = (
    "a csv, tsv, jsonl or parquet file, a folder of such files of one kind, or a URL of either (s3://, gs://, ...)."
)
ItemsOption = Annotated[str | None, typer.Option(metavar="PLACE", help=f"Items: {_PLACE}")]
EventsOption = Annotated[str | None, typer.Option(metavar="PLACE", help=f"Events: {_PLACE}")]
DataOption = Annotated[
    str | None,
    typer.Option(
        metavar="KIND:FOLDER",
        help="Instead of tables a public dataset's raw files: mind, yelp, amazon or movielens; "
        "or movielens-100k alone, which is fetched. The paper presets reduce mind and yelp as the paper does.",
    ),
]
InOrderOption = Annotated[
    bool, typer.Option("--in-order", help="Events stand in time order in the file: no times needed.")
]
TextOption = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="A text column of the items; may be repeated. All others by default."),
]
TitleOption = Annotated[str | None, typer.Option(metavar="COLUMN", help="The text column shown to people.")]
SequencesOption = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Events have one row per user, with all item ids in this column."),
]
BadRowsOption = Annotated[BadRows, typer.Option(help="Unreadable rows: stop at the first, or leave them out.")]
PrepareOption = Annotated[
    bool,
    typer.Option("--prepare", help="Only make the run folder, for tokenize, cluster and train one by one."),
]
UnknownOption = Annotated[Unknown, typer.Option(help="Events whose item the items file lacks.")]


def add_to(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("fit")(fit)


@verb(resumes=True)
def fit(
    *,
    out: OutOption,
    items: ItemsOption = None,
    events: EventsOption = None,
    data: DataOption = None,
    config: options.ConfigOption = None,
    preset: options.PresetOption = None,
    item_id: Annotated[str, typer.Option(metavar="COLUMN", help="Item ids, in both files.")] = "item_id",
    user_id: Annotated[str, typer.Option(metavar="COLUMN", help="User ids.")] = "user_id",
    timestamp: Annotated[str, typer.Option(metavar="COLUMN", help="Times of the events.")] = "timestamp",
    in_order: InOrderOption = False,
    text: TextOption = None,
    title: TitleOption = None,
    sequences: SequencesOption = None,
    encoding: Annotated[str, typer.Option(help="Encoding of text files.")] = "utf-8",
    bad_rows: BadRowsOption = BadRows.error,
    unknown: UnknownOption = Unknown.drop,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = options.Device.auto,
    dtype: options.DtypeOption = options.Dtype.auto,
    progress: options.ProgressOption = True,
    prepare: PrepareOption = False,
    engine: engines.EngineOption = engines.EngineName.local,
    address: engines.AddressOption = None,
    workers: engines.WorkersOption = None,
    engine_config: engines.EngineConfigOption = None,
    sharded: engines.ShardedOption = False,
) -> None:
    """Train on your items and events: from their texts to recommendations.

    The same command goes on where an interrupted run stopped, and reuses what stands.
    """
    tables = Tables(
        items=items,
        events=events,
        data=data,
        item_id=item_id,
        user_id=user_id,
        timestamp=None if in_order else timestamp,
        text=text,
        title=title,
        sequences=sequences,
        encoding=encoding,
        bad_rows=bad_rows.value,
        unknown=unknown.value,
        paper_seed=seed if preset in ("paper-mind", "paper-yelp") else None,
    )
    from storerec.pipeline import StoreConfig

    settings = StoreConfig.assembled(preset, config)  # before the data: its faults are found at once
    run_options = options.run_options(seed=seed, device=device, dtype=dtype, progress=progress, sharded=sharded)
    with engines.chosen(engine, address, workers, engine_config) as where:
        catalogue, histories = tables.read(where.read_events)

        from storerec.pipeline import RunFolder
        from storerec.pipeline import fit as fit_run

        run = engines.first_alone(lambda: RunFolder.create(out, catalogue, histories, settings, run_options))
        if prepare:
            show(f"The run folder is made. Next: storerec tokenize {out}")
            return
        with engines.bars(progress) as bars:
            store = fit_run(run, bars, where)
    report = store.code_report()
    show(
        *code_tables(report),
        f"The bundle is {out / 'bundle'}. Next: storerec evaluate {out}, or "
        f"storerec recommend {out} --history ID,ID,...",
    )
