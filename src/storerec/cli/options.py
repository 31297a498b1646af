"""Arguments and flags that several verbs share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from storerec.config import RunOptions


class Device(StrEnum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Dtype(StrEnum):
    """Arithmetic of training."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float64 = "float64"


RunFolderArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="Run folder that `storerec fit` made.", show_default=False)
]
LoadArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="Run folder, or a bundle folder.", show_default=False)
]
JsonOption = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write the result as JSON too.", show_default=False),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of all random choices.")]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where to compute; auto takes a GPU if there is one.")]
DtypeOption = Annotated[
    Dtype, typer.Option("--dtype", help="Arithmetic of training; auto goes by what the processor does well.")
]
ProgressOption = Annotated[bool, typer.Option("--progress/--no-progress", help="Show progress bars.")]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings as JSON; over those of --preset if given."),
]
PresetOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Settings by name: cpu (the default), paper-mind or paper-yelp."),
]
BackboneOption = Annotated[
    str | None,
    typer.Option(
        metavar="PLACE",
        help="Where the language model is here, if not where it was at training.",
        show_default=False,
    ),
]
ExcludeHistoryOption = Annotated[
    bool, typer.Option("--exclude-history", help="Never recommend items of the history itself.")
]


def run_options(
    *,
    device: Device = Device.auto,
    dtype: Dtype = Dtype.auto,
    progress: bool = True,
    seed: int = 0,
    sharded: bool = False,
) -> RunOptions:
    """Collect the flags that say how to compute."""
    from storerec.config import RunOptions

    values: dict[str, Any] = {
        "seed": seed,
        "device": device.value,
        "dtype": dtype.value,
        "progress": progress,
        "sharded": sharded,
    }
    return RunOptions.parse(values, source="command line")


def split_list(values: list[str] | None) -> list[str]:
    """Split comma-divided ids of a flag that may be given several times; blanks around them do not count."""
    parts = [part.strip() for value in values or () for part in value.split(",")]
    return [part for part in parts if part]
