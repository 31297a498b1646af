"""``storerec serve``: the HTTP service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from storerec.cli import options
from storerec.cli.ending import say, verb
from storerec.cli.engine import AddressOption, EngineConfigOption, EngineName, EngineOption, no_ray_flags, ray_config
from storerec.errors import ConfigError


def add_to(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("serve")(serve)


@verb(resumes=False)
def serve(
    run: options.LoadArgument,
    host: Annotated[
        str | None, typer.Option(help="Address to listen at (127.0.0.1); others than loopback need a key.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port (8000); 0 takes a free one.")] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File with the API key; without it, STOREREC_API_KEY counts."),
    ] = None,
    max_batch: Annotated[int | None, typer.Option(min=1, help="Most requests answered in one batch (32).")] = None,
    max_wait_ms: Annotated[
        float | None, typer.Option(min=0, max=1000, help="How long a request waits for others to share a batch (5).")
    ] = None,
    queue_size: Annotated[
        int | None, typer.Option(min=1, help="Most requests that wait (128); more are refused with 429.")
    ] = None,
    deadline_seconds: Annotated[float | None, typer.Option(help="Longest time to an answer (10); then 503.")] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="All settings of the service, as JSON; flags go over it.")
    ] = None,
    backbone: options.BackboneOption = None,
    device: options.DeviceOption = options.Device.auto,
    engine: EngineOption = EngineName.local,
    address: AddressOption = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", "--replicas", min=1, help="Replicas of --engine ray (2).", show_default=False),
    ] = None,
    max_replicas: Annotated[
        int | None,
        typer.Option(min=1, help="Most replicas of --engine ray while many requests come; else always --workers."),
    ] = None,
    engine_config: EngineConfigOption = None,
) -> None:
    """Recommend, score, search and add items over HTTP, until it is stopped. Needs the extra storerec[serve].

    SIGTERM or Ctrl-C finish what was asked and stop; SIGHUP, or a new bundle in the folder, loads that without dropping
    a request. Items added and removed are written down in the folder before they are answered. With --engine ray
    several replicas answer at one address, on one node or many, and know of each other's changes.
    """
    from storerec.config import merged
    from storerec.serving import ServingConfig
    from storerec.serving import serve as run_service
    from storerec.serving.key import read_key

    given: dict[str, Any] = {
        "host": host,
        "port": port,
        "max_batch": max_batch,
        "max_wait_ms": max_wait_ms,
        "queue_size": queue_size,
        "deadline_seconds": deadline_seconds,
    }
    base = {} if config is None else ServingConfig.read(config).model_dump()
    flags = {name: value for name, value in given.items() if value is not None}
    settings = ServingConfig.parse(merged(base, flags), source="command line")
    how = options.run_options(device=device, progress=False)
    more: dict[str, Any] = {"api_key": read_key(api_key_file), "backbone": backbone, "options": how, "say": say}
    if engine is EngineName.ray:
        from storerec.scale.serving import serve_replicas

        cluster = ray_config(address, workers, engine_config)
        serve_replicas(run, settings, cluster, max_replicas=max_replicas, **more)
        return
    no_ray_flags(address, workers, engine_config)
    if max_replicas is not None:
        raise ConfigError("--max-replicas: only --engine ray knows that; add it, or leave --max-replicas out")
    run_service(run, settings, **more)
