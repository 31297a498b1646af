"""Flags that say where a verb computes: here, or on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from storerec.llm.progress import Progress
    from storerec.pipeline.engine import Engine
    from storerec.scale import RayConfig

T = TypeVar("T")


class EngineName(StrEnum):
    """Where to compute."""

    local = "local"
    ray = "ray"


EngineOption = Annotated[
    EngineName,
    typer.Option("--engine", help="Where to compute: in this process, or on Ray (needs the extra storerec[ray])."),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="Ray cluster that this machine is a node of ('auto' finds it); without it one is started here.",
        show_default=False,
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Processes of --engine ray that work at a time (2).", show_default=False),
]
EngineConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--engine-config",
        metavar="FILE",
        help="Settings of --engine ray as JSON (docs/cluster.md); flags go over it.",
        show_default=False,
    ),
]
ShardedOption = Annotated[
    bool,
    typer.Option("--sharded", help="Shard the language model's layers over the processes that train (FSDP)."),
]


def ray_config(address: str | None, workers: int | None, config: Path | None) -> RayConfig:
    """Settings of the engine from flags over a file."""
    from storerec.scale import RayConfig

    base = {} if config is None else RayConfig.read(config).model_dump()
    flags = {name: value for name, value in {"address": address, "workers": workers}.items() if value is not None}
    return RayConfig.parse(base | flags, source="command line")


@contextmanager
def chosen(name: EngineName, address: str | None, workers: int | None, config: Path | None) -> Iterator[Engine]:
    """The engine that the flags name, for the length of a block.

    Raises
    ------
    ConfigError: flags of Ray without ``--engine ray``, or a cluster that cannot be used.
    MissingExtraError: Ray is not installed.
    """
    if name is EngineName.local:
        from storerec.llm import processes
        from storerec.pipeline.engine import LocalEngine

        no_ray_flags(address, workers, config)
        try:
            yield LocalEngine()
        finally:
            processes.leave()
        return
    from storerec.errors import ConfigError
    from storerec.scale.engine import RayEngine

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("--engine ray starts its processes itself: call it without torchrun or accelerate launch")
    with RayEngine.started(ray_config(address, workers, config)) as engine:
        yield engine


def bars(enabled: bool) -> Progress:
    """Progress bars, which of several processes the first one shows."""
    from storerec.llm import processes
    from storerec.llm.progress import Progress

    return Progress(enabled=enabled and processes.is_first())


def first_alone(work: Callable[[], T]) -> T:
    """What ``work`` gives; of processes that torchrun started the first one does it before the others do."""
    from storerec.llm import processes

    made: list[T] = []
    processes.together(lambda: made.append(work()) if processes.is_first() else None)
    return made[0] if made else work()


def no_ray_flags(address: str | None, workers: int | None, config: Path | None) -> None:
    """ConfigError where a flag of Ray was given that nothing would look at."""
    from storerec.errors import ConfigError

    given = {"--address": address, "--workers": workers, "--engine-config": config}
    if flags := [flag for flag, value in given.items() if value is not None]:
        raise ConfigError(f"{', '.join(flags)}: only --engine ray knows that; add it, or leave {flags[0]} out")
