"""``storerec add-items``: make new items recommendable, from their text alone."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from storerec.cli import options
from storerec.cli.ending import say, verb
from storerec.cli.output import show, write_result


def add_to(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("add-items")(add_items)


@verb(resumes=True)
def add_items(
    run: options.LoadArgument,
    items: Annotated[
        str,
        typer.Argument(
            metavar="ITEMS", help="Table of new items: csv, tsv, JSON lines or Parquet; a folder or URL of them."
        ),
    ],
    item_id: Annotated[str, typer.Option(help="Column of item ids.")] = "item_id",
    backbone: options.BackboneOption = None,
    device: options.DeviceOption = options.Device.auto,
    json: options.JsonOption = None,
    progress: options.ProgressOption = True,
) -> None:
    """Make new items recommendable, from their text alone; no code given out before changes.

    Columns go by the names that the training's items had. An id that is known keeps its codes: with another text, the
    text is updated; if it was removed, it comes back. An item without text is an error, and then none is added. A
    server of the same folder sees the items at once. Says how well the codebook fits all items added so far, and when
    to fit anew.
    """
    from storerec.data import read_items
    from storerec.llm.progress import Progress
    from storerec.pipeline import Live

    given = read_items(items, item_id=item_id)
    with (
        closing(Live.open(run, backbone=backbone, options=options.run_options(device=device))) as live,
        Progress(enabled=progress) as bars,
    ):
        found = live.add_items(given, bars)
        fit = live.codebook_fit()
    counts = {
        status: int((found["status"] == status).sum()) for status in ("added", "updated", "restored", "unchanged")
    }
    write_result(
        json, {"items": found.to_dicts(), "counts": counts, "codebook_fit": None if fit is None else fit.to_json()}
    )
    told = ", ".join(f"{count:,} {status}" for status, count in counts.items() if count)
    show(f"{told}; {len(live.store.catalogue):,} items in all.")
    if fit is None and counts["added"]:
        show(
            "How well the codebook fits them is not known: it has a centre for nearly every item it was fitted on, or "
            "was made before that was kept with it."
        )
    if fit is not None:
        (say if fit.refit else show)(f"{'warning: ' if fit.refit else ''}{fit.verdict}.")
