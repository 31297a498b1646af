"""``storerec score``: how likely a user is to choose given items."""

from __future__ import annotations

from typing import Annotated

import typer

from storerec.cli import options
from storerec.cli.ending import verb
from storerec.cli.output import show, table, write_result


def add_to(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("score")(score)


@verb(resumes=False)
def score(
    run: options.LoadArgument,
    history: Annotated[
        list[str],
        typer.Option(metavar="ID,ID,...", help="Items chosen so far, oldest first.", show_default=False),
    ],
    candidates: Annotated[list[str], typer.Option(metavar="ID,ID,...", help="Items to score.", show_default=False)],
    backbone: options.BackboneOption = None,
    device: options.DeviceOption = options.Device.auto,
    json: options.JsonOption = None,
) -> None:
    """Score items for a user with a history, best first.

    By the probability of yes where the run has a scorer (see fit-scorer), else by the log-probability that the
    recommender gives each item as the next one. The title says which.
    """
    from storerec.pipeline import STORE

    given = options.split_list(history)
    store = STORE.load(run, backbone=backbone, options=options.run_options(device=device))
    found = store.score(given, options.split_list(candidates))
    ids = [one for one, row in zip(given, store.catalogue.rows(given), strict=True) if row >= 0]
    rows = [{"item_id": s.item_id, "title": s.title, "score": s.score} for s in found]
    write_result(json, {"history": ids, "scored_by": store.scored_by, "scores": rows})
    made = table(f"Candidates by {store.scored_by}", "#", "Item", "Title", "Score", right=("#", "Score"))
    for number, s in enumerate(found, 1):
        made.add_row(str(number), s.item_id, s.title, f"{s.score:.4f}")
    show(made)
