"""``storerec recommend``: the next items after a history."""

from __future__ import annotations

from typing import Annotated

import typer

from storerec.cli import options
from storerec.cli.ending import verb
from storerec.cli.output import show, table, write_result

_SHOWN = 5
"""Most items of the history named over the table."""


def add_to(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("recommend")(recommend)


@verb(resumes=False)
def recommend(
    run: options.LoadArgument,
    history: Annotated[
        list[str],
        typer.Option(metavar="ID,ID,...", help="Items chosen so far, oldest first.", show_default=False),
    ],
    k: Annotated[int, typer.Option("-k", min=1, help="How many items to recommend.")] = 10,
    exclude: Annotated[list[str] | None, typer.Option(metavar="ID,ID,...", help="Items never to recommend.")] = None,
    exclude_history: options.ExcludeHistoryOption = False,
    new_share: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of the places kept for items added after training, whole places only.",
            show_default="0.1",
        ),
    ] = None,
    backbone: options.BackboneOption = None,
    device: options.DeviceOption = options.Device.auto,
    json: options.JsonOption = None,
) -> None:
    """Recommend the next items after a history, with titles and log-probabilities."""
    from storerec.pipeline import STORE

    given = options.split_list(history)
    store = STORE.load(run, backbone=backbone, options=options.run_options(device=device))
    without = options.split_list(exclude)
    found = store.recommend(given, k, exclude=without, exclude_history=exclude_history, new_share=new_share)
    ids = [one for one, row in zip(given, store.catalogue.rows(given), strict=True) if row >= 0]
    rows = [
        {"item_id": r.item_id, "title": r.title, "score": float(r.score), "codes": [int(c) for c in r.codes]}
        for r in found
    ]
    write_result(json, {"history": ids, "recommendations": rows})
    after = ", ".join(ids[-_SHOWN:]) or "an empty history"
    title = f"After {'..., ' if len(ids) > _SHOWN else ''}{after}"
    made = table(title, "#", "Item", "Title", "Score", "Codes", right=("#", "Score"))
    for number, r in enumerate(found, 1):
        made.add_row(str(number), r.item_id, r.title, f"{r.score:.3f}", " ".join(map(str, r.codes)))
    show(made)
