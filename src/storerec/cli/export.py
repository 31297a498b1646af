"""``storerec export``: codes as a table, or a model for plain transformers."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from storerec.cli import options
from storerec.cli.ending import verb
from storerec.cli.output import show
from storerec.errors import ConfigError


class What(StrEnum):
    """What to export."""

    codes = "codes"
    model = "model"


def add_to(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("export")(export)


@verb(resumes=False)
def export(
    run: options.LoadArgument,
    out: Annotated[
        str,
        typer.Option(
            "--out", metavar="PLACE", help="Parquet file, here or at a URL; or folder of the model.", show_default=False
        ),
    ],
    what: Annotated[
        What, typer.Option(help="codes: item_id and codes. model: a folder for transformers.")
    ] = What.codes,
    backbone: options.BackboneOption = None,
) -> None:
    """Write the items' codes as Parquet for other systems, or a merged model that transformers can generate from.

    The model's folder holds codes as words of its vocabulary; `storerec.pipeline.export.load_processor` gives
    `generate` the tree of existing items.
    """
    from storerec.data.places import is_url, name_of
    from storerec.pipeline import STORE, load_inspection
    from storerec.pipeline.export import export_codes, export_model

    if what is What.codes:
        inspection = load_inspection(run)
        export_codes(inspection.catalogue.ids, inspection.table.codes, out)
        show(f"{len(inspection.catalogue):,} items' codes: {name_of(out)}")
        return
    if is_url(out):
        raise ConfigError(
            f"{name_of(out)}: a model is a folder on this machine; write it there, and send it on with your tools"
        )
    store = STORE.load(run, backbone=backbone, options=options.run_options(), for_inference=False)
    export_model(store, Path(out))
    show(f"The model for transformers: {out}")
