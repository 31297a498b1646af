"""The program ``storerec``: its verbs. Nothing heavy is imported before one runs, so help comes at once."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from storerec._version import __version__
from storerec.cli import (
    add_items,
    cluster,
    cold_start,
    compare,
    demo,
    evaluate,
    export,
    fit,
    fit_scorer,
    inspect,
    recommend,
    remove_items,
    score,
    serve,
    tokenize,
    train,
)

app = typer.Typer(
    name="storerec",
    help="Recommend items from their texts and users' histories with one language model (STORE).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # what is no StorerecError is our bug: show its plain traceback
)
for _verb in (
    *(fit, tokenize, cluster, train, evaluate, recommend, add_items, remove_items),
    *(fit_scorer, score, inspect, export, serve, compare, cold_start, demo),
):
    _verb.add_to(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"storerec {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Take the options that stand before a verb."""


def main() -> None:
    """Run the program; the console entry ``storerec``."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        app(prog_name="storerec")
        return
    from storerec.llm import processes

    try:
        app(prog_name="storerec")
    except SystemExit as ended:
        processes.end(ended.code if isinstance(ended.code, int) else int(ended.code is not None))
