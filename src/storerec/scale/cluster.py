"""Being connected to a Ray cluster, for the length of a block."""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storerec.errors import ConfigError, MissingExtraError
from storerec.scale.config import RayConfig

_REACH_SECONDS = 10.0

_QUIET = {
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    # Workers run in the program's own environment; Ray would otherwise look for `uv run` and make a new one.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # A worker that asked for no GPU must not see any: all of them would take the first.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_DEDUP_LOGS": "1",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def needs_ray() -> Any:
    """The library; MissingExtraError where it is not installed."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise MissingExtraError("--engine ray needs Ray: pip install 'storerec[ray]'") from None
    return ray


@contextmanager
def connected(config: RayConfig) -> Iterator[Any]:
    """Give Ray, connected to the cluster of ``config``; what was connected before stays so afterwards.

    Raises
    ------
    MissingExtraError: Ray is not installed.
    ConfigError: there is no cluster at the address, or it has not the cores or GPUs that are asked for.
    """
    ray = needs_ray()
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, config)
    _quiet_data()
    try:
        _check_room(ray, config)
        yield ray
    finally:
        if ours:
            ray.shutdown()


def _connect(ray: Any, config: RayConfig) -> None:
    if config.address not in (None, "auto", "local"):
        _check_reachable(str(config.address))
    # "local": without it Ray joins whatever cluster was last started on this machine
    where: dict[str, Any] = {"address": config.address or "local"}
    if config.address is None:
        where |= {"include_dashboard": False}
        wanted = math.ceil(config.cpus_per_worker * max(config.workers, config.train_workers or 0))
        if wanted > (os.cpu_count() or 1):  # more workers than cores take turns
            where["num_cpus"] = wanted
    try:
        with _deaf():
            ray.init(**where, log_to_driver=False, logging_level=logging.ERROR, configure_logging=True)
    except Exception as error:  # Ray raises plain ones, too, where a busy machine is slow to start it
        if "uthentication" in type(error).__name__:
            raise ConfigError(
                f"--address {config.address}: the cluster asks for a token; set RAY_AUTH_MODE=token and have the "
                "head's ~/.ray/auth_token here and on all nodes"
            ) from None
        if "node info" in str(error):
            raise ConfigError(
                f"--address {config.address}: this machine is no node of that cluster; run `ray start --address "
                f"{config.address}` on it first, or the command on one of the cluster's"
            ) from None
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"--address {config.address}: no Ray cluster can be reached there ({first})"
            if config.address
            else f"Ray could not be started on this machine ({first})"
        ) from None


@contextmanager
def _deaf() -> Iterator[None]:
    """Without what Ray's own library writes to standard error, whose log level is itself told there as it is set."""
    with Path(os.devnull).open("wb") as nothing:
        kept = os.dup(2)
        try:
            os.dup2(nothing.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _check_reachable(address: str) -> None:
    """Ray would try for minutes where nothing listens."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_SECONDS):
            return
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"--address {address}: no Ray cluster can be reached there ({reason}); give HOST:PORT of its head (6379 is "
            "usual), or 'auto'"
        ) from None


def _quiet_data() -> None:
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    logging.getLogger("ray.train").setLevel(logging.ERROR)


def _check_room(ray: Any, config: RayConfig) -> None:
    """Ray would wait for ever for what no node has."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    need = {
        "CPU": ("cpus_per_worker", config.cpus_per_worker),
        "GPU": ("gpus_per_worker", config.gpus_per_worker),
        "memory": ("memory_per_worker", float(config.memory_per_worker or 0)),
    }
    for name, (flag, wanted) in need.items():
        most = max((float(node.get(name, 0.0)) for node in nodes), default=0.0)
        if wanted > most:
            raise ConfigError(f"{flag} is {wanted:g}, but no node of the cluster has more than {most:g} {name}")
    if not any(all(node.get(name, 0.0) >= wanted for name, (_, wanted) in need.items()) for node in nodes):
        flags = ", ".join(flag for flag, _ in need.values())
        raise ConfigError(f"no node of the cluster has all that a worker takes: {flags}")
