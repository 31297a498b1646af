"""Runs the service in this process: socket, signals, start and graceful stop."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import uvicorn

from storerec.config import RunOptions
from storerec.pipeline.live import Live
from storerec.serving.app import create_app
from storerec.serving.config import ServingConfig
from storerec.serving.listening import bound, check_reach, url_of
from storerec.serving.service import Service

_GRACE_SECONDS = 5


def serve(
    folder: Path,
    config: ServingConfig,
    *,
    api_key: str | None = None,
    backbone: str | None = None,
    options: RunOptions | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve a bundle, or a run folder's, until the process is asked to stop (SIGTERM, or Ctrl-C).

    A stop takes no new connections, answers what was asked, and returns. SIGHUP loads the bundle anew.

    Parameters
    ----------
    api_key: asked for in every request; needed where ``config.host`` is no loopback address.
    backbone: where the language model is here, if not where it was at training.
    say: told where it listens, and when it is ready.

    Raises
    ------
    ConfigError: there is no key for an address others can reach, or the address cannot be listened at.
    StorerecError: the bundle cannot be loaded.
    """
    check_reach(config, api_key)
    listening = bound(config)
    with listening:
        load = partial(Live.open, folder, backbone=backbone, options=options)
        asyncio.run(_run(Service(folder, load, config), listening, api_key, say))


async def _run(service: Service, listening: socket.socket, api_key: str | None, say: Callable[[str], None]) -> None:
    settings = uvicorn.Config(
        create_app(service, api_key=api_key),
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=int(service.config.deadline_seconds) + _GRACE_SECONDS,
    )
    server = _Server(settings, on_hang_up=service.reload_soon)
    say(f"listening at {_address(listening)}; loading the model")

    async def follow() -> None:
        await service.settled.wait()
        if service.failure is None:
            say(f"ready at {_address(listening)}; its page is there, its description at /openapi.json")
        server.should_exit |= service.failure is not None

    following = asyncio.create_task(follow())
    await server.serve(sockets=[listening])
    following.cancel()
    if service.failure is not None:
        raise service.failure


class _Server(uvicorn.Server):
    """uvicorn's server, which ends as a program that was asked to end, and not as one that was killed."""

    def __init__(self, config: uvicorn.Config, *, on_hang_up: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_hang_up = on_hang_up

    @contextmanager
    def capture_signals(self) -> Iterator[None]:  # type: ignore[override]
        """Stop at SIGTERM and SIGINT, at a second SIGINT without waiting; reload at SIGHUP."""
        if not hasattr(signal, "SIGHUP"):  # Windows, whose event loops take no signals
            with super().capture_signals():
                yield
            return
        loop = asyncio.get_running_loop()
        stops = (signal.SIGTERM, signal.SIGINT)
        for number in stops:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        loop.add_signal_handler(signal.SIGHUP, self._on_hang_up)
        try:
            yield
        finally:
            for number in (*stops, signal.SIGHUP):
                loop.remove_signal_handler(number)


def _address(listening: socket.socket) -> str:
    return url_of(*listening.getsockname()[:2])
