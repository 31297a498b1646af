"""``storerec fit-scorer``: the yes/no scorer of a finished run, from what users said of items."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from storerec.cli import options
from storerec.cli.ending import verb
from storerec.cli.output import show, table, write_result

if TYPE_CHECKING:
    from storerec.data import Judgements
    from storerec.data.readers.judgements import JudgedDataset
    from storerec.pipeline import RunFolder

EventsOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Judged events, one row each: csv, tsv, jsonl or parquet.")
]
RatingOption = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Stars: more than 3 yes, fewer no, 3 is left out.")
]
LabelOption = Annotated[str | None, typer.Option(metavar="COLUMN", help="1 or 0 (true, false, yes, no).")]
DataOption = Annotated[
    str | None,
    typer.Option(
        metavar="KIND:FOLDER",
        help="Instead of a table a public dataset's raw files: mind, yelp or movielens; or movielens-100k alone.",
    ),
]
TestOption = Annotated[
    float,
    typer.Option(help="Users to test on: a number, or below 1 a share. Not used where the run is split by users."),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings of the scorer as JSON.", show_default=False)
]


def add_to(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("fit-scorer")(fit_scorer)


@verb(resumes=True)
def fit_scorer(
    run: options.RunFolderArgument,
    events: EventsOption = None,
    rating: RatingOption = None,
    label: LabelOption = None,
    data: DataOption = None,
    item_id: Annotated[str, typer.Option(metavar="COLUMN", help="Item ids.")] = "item_id",
    user_id: Annotated[str, typer.Option(metavar="COLUMN", help="User ids.")] = "user_id",
    timestamp: Annotated[str, typer.Option(metavar="COLUMN", help="Times of the events.")] = "timestamp",
    config: ConfigOption = None,
    test_users: TestOption = 0.1,
    device: options.DeviceOption = options.Device.auto,
    dtype: options.DtypeOption = options.Dtype.auto,
    progress: options.ProgressOption = True,
    json: options.JsonOption = None,
) -> None:
    """Train the scorer of a finished run, so that ``storerec score`` answers with the probability of yes."""
    from storerec.data import JudgementSplitConfig
    from storerec.llm.progress import Progress
    from storerec.pipeline import RunFolder
    from storerec.pipeline.scoring import split_for, train_scorer
    from storerec.recommender.scoring import ScorerConfig

    settings = ScorerConfig() if config is None else ScorerConfig.read(config)
    folder = RunFolder.open(run, options.run_options(device=device, dtype=dtype, progress=progress))
    columns = {"item_id": item_id, "user_id": user_id, "timestamp": timestamp, "rating": rating, "label": label}
    judged = _read(folder, data, events, columns)
    wanted = {"test_users": int(test_users) if test_users >= 1 else test_users}
    parts = split_for(folder, judged, JudgementSplitConfig.parse(wanted, source="--test-users"))
    with Progress(enabled=progress) as bars:
        record = train_scorer(folder, parts, bars, settings)
    write_result(json, record)
    test = record["test"]
    made = table(f"Mean AUC of {test['groups']} test groups", "Scorer", "AUC", right=("AUC",))
    for name, auc in test["auc"].items():
        made.add_row(name, "none" if auc is None else f"{auc:.4f}")
    show(
        made,
        *record["notes"],
        f"The scorer is trained. Next: storerec score {run} --history ID,... --candidates ID,...",
    )


def _read(run: RunFolder, data: str | None, events: Path | None, columns: dict[str, str | None]) -> Judgements:
    from storerec.data import read_judgement_table, read_judgements
    from storerec.errors import ConfigError

    # of a split by users only its users have a part
    users = run.histories.user_ids if run.split.protocol == "users" else None
    if (data is None) == (events is None):
        raise ConfigError("fit-scorer needs --events FILE with --rating or --label, or --data KIND:FOLDER")
    if data is not None:
        if columns["rating"] or columns["label"]:
            raise ConfigError("--data knows its own columns; leave --rating and --label out")
        kind, _, place = data.partition(":")
        return read_judgements(cast("JudgedDataset", kind), Path(place) if place else None, run.catalogue, users=users)
    assert events is not None
    names = {name: str(column) for name, column in columns.items() if column is not None}
    if len({"rating", "label"} & set(names)) != 1:
        raise ConfigError("--events needs --rating COLUMN or --label COLUMN, one of the two")
    return read_judgement_table(
        events,
        run.catalogue,
        user_id=names["user_id"],
        item_id=names["item_id"],
        timestamp=names["timestamp"],
        rating=names.get("rating"),
        label=names.get("label"),
        users=users,
    )
