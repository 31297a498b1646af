"""``storerec recommend``: the next items after a history."""

from __future__ import annotations

from typing import Annotated

import typer

from storerec.cli.ending import verb
from storerec.cli.options import ExcludeHistoryOption, JsonOption, LoadArgument, split_list
from storerec.cli.output import show, table, write_result


def add_to(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("recommend")(recommend)


@verb(resumes=False)
def recommend(
    run: LoadArgument,
    history: Annotated[
        list[str],
        typer.Option(metavar="ID,ID,...", help="Items chosen so far, oldest first.", show_default=False),
    ],
    k: Annotated[int, typer.Option("-k", min=1, help="How many items to recommend.")] = 10,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="ID,ID,...", help="Items never to recommend.")
    ] = None,
    exclude_history: ExcludeHistoryOption = False,
    json: JsonOption = None,
) -> None:
    """Recommend the next items after a history, with titles and log-probabilities."""
    from storerec.pipeline import STORE

    ids = split_list(history)
    found = STORE.load(run).recommend(ids, k, exclude=split_list(exclude), exclude_history=exclude_history)
    rows = [
        {"item_id": r.item_id, "title": r.title, "score": float(r.score), "codes": [int(c) for c in r.codes]}
        for r in found
    ]
    write_result(json, {"history": ids, "recommendations": rows})
    made = table(f"After {', '.join(ids)}", "#", "Item", "Title", "Score", "Codes", right=("#", "Score"))
    for number, r in enumerate(found, 1):
        made.add_row(str(number), r.item_id, r.title, f"{r.score:.3f}", " ".join(map(str, r.codes)))
    show(made)
