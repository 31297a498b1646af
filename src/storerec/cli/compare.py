"""``storerec compare``: every system of the paper on the same users, with intervals and tests."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from storerec.cli import options
from storerec.cli.ending import say, verb
from storerec.cli.output import show, table

if TYPE_CHECKING:
    from rich.table import Table

    from storerec.evaluation.comparison import Comparison
    from storerec.evaluation.score_comparison import ScoreComparison

N = TypeVar("N", int, float)


def add_to(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("compare")(compare)


@verb(resumes=True)
def compare(
    *,
    data: Annotated[
        str,
        typer.Option(
            metavar="NAME|KIND:FOLDER|FOLDER",
            help="movielens-100k (fetched), mind:FOLDER, yelp:FOLDER, amazon:FOLDER, movielens:FOLDER, or a folder "
            "with your items.* and events.* tables.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder to make, or to go on with.", show_default=False)
    ],
    systems: Annotated[
        str,
        typer.Option(
            metavar="LIST", help="Names or groups, divided by commas: all, retrieval, ablations, scorers, ..."
        ),
    ] = "retrieval",
    seeds: Annotated[str, typer.Option(metavar="LIST", help="Seeds of training.")] = "1,2,3",
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Settings by name; by default those that suit the data.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Settings as JSON over the preset's.")
    ] = None,
    rates: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Tuning: factors on the learning rate to try for each trained system."),
    ] = None,
    dropouts: Annotated[
        str | None, typer.Option(metavar="LIST", help="Tuning: factors on dropout to try, each with each rate.")
    ] = None,
    exclude_history: Annotated[
        bool | None,
        typer.Option("--exclude-history/--include-history", help="Whether lists leave out the user's own history."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=0, help="Processes at a time; 0 computes in this one.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of each process.")] = None,
    device: options.DeviceOption = options.Device.auto,
    dtype: options.DtypeOption = options.Dtype.auto,
) -> None:
    """Compare systems on one dataset: trials, all systems with all seeds, and a report with intervals and tests.

    The same command goes on where an interrupted one stopped, and tries failed systems again.
    """
    from storerec.comparison import ComparisonConfig, Grid, check_own_folder, load_data, resolve, resolve_scorers
    from storerec.comparison import compare as run

    names = options.split_list([systems])
    recipes = resolve(names)
    numbers = _numbers(seeds, "seeds", int)
    changes = _numbers(rates, "rates", float) if rates is not None else None
    drops = _numbers(dropouts, "dropouts", float) if dropouts is not None else None
    check_own_folder(out)  # before data of gigabytes are read
    found = load_data(data)
    settings = ComparisonConfig.assembled(
        preset or found.preset, config, rates=changes, dropouts=drops, exclude_history=exclude_history
    )
    command = shlex.join(["storerec", *sys.argv[1:]])
    scorers, notes = resolve_scorers(names, found, settings)
    grid = Grid(recipes, numbers, jobs, threads, command, scorers, notes)
    result = run(found, settings, grid, out, options.run_options(device=device, dtype=dtype), say)
    if result.ranking is not None:
        show(_summary(result.ranking))
    if result.scoring is not None:
        show(_scores(result.scoring))


def _numbers(text: str, flag: str, kind: Callable[[str], N]) -> tuple[N, ...]:
    from storerec.errors import ConfigError

    try:
        found = tuple(dict.fromkeys(kind(part) for part in options.split_list([text])))
    except ValueError:
        raise ConfigError(f"--{flag} takes numbers divided by commas, not '{text}'") from None
    if not found or min(float(number) for number in found) < 0:  # type: ignore[arg-type]
        raise ConfigError(f"--{flag} takes at least one number, none below 0")
    return found


def _summary(result: Comparison) -> Table:
    columns = ("Recall@10", "NDCG@10", f"p against {result.reference}")
    made = table("Item level, full ranking, mean over users and seeds", "System", *columns, right=columns)
    for name, system in result.systems.items():
        cells = [
            f"{m.value:.4f} [{m.low:.4f}, {m.high:.4f}]" if (m := system.item_level.get(metric)) else "-"
            for metric in ("recall@10", "ndcg@10")
        ]
        against = result.differences.get(name, {}).get("ndcg@10")
        made.add_row(name, *cells, f"{against.p_adjusted:.4f}" if against else "")
    return made


def _scores(result: ScoreComparison) -> Table:
    columns = ("AUC", "MRR", "NDCG@5", f"p (AUC) against {result.reference}")
    made = table(f"Scoring, mean over {result.groups} groups and seeds", "System", *columns, right=columns)
    for name, system in result.systems.items():
        values = [system.metrics[metric] for metric in ("auc", "mrr", "ndcg@5")]
        cells = [f"{m.value:.4f} [{m.low:.4f}, {m.high:.4f}]" for m in values]
        against = result.differences.get(name, {}).get("auc")
        made.add_row(name, *cells, f"{against.p_adjusted:.4f}" if against else "")
    return made
