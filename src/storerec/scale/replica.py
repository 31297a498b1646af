"""One replica of the service: the same application over a bundle of its own, which asks the ledger."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storerec.config import RunOptions
from storerec.errors import StorerecError
from storerec.pipeline.bundling import bundle_folder
from storerec.pipeline.config import StoreConfig
from storerec.pipeline.live import Live
from storerec.scale.front import REPLICA
from storerec.scale.ledger_log import LedgerLog
from storerec.scale.replica_peers import ReplicaPeers
from storerec.serving import Service, ServingConfig, create_app

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True)
class Order:
    """What all replicas serve.

    Attributes
    ----------
    folder: a bundle, or a run folder with one, at the same path on every node.
    backbone: the language model's place, where it is another one than the bundle says.
    started_in: where such places begin that are not absolute; replicas run in other folders.
    """

    folder: Path
    config: ServingConfig
    options: RunOptions
    backbone: str | None = None
    api_key: str | None = field(default=None, repr=False)
    started_in: Path = Path()

    def backbone_place(self) -> str | None:
        """``backbone`` as replicas find it; None where the bundle of now names one that they find."""
        name = self.backbone or StoreConfig.read(bundle_folder(self.folder) / "config.json").backbone.name
        place = self.started_in / Path(name).expanduser()
        return str(place) if place.exists() and not Path(name).is_absolute() else self.backbone


class Replica:
    """What Serve sees of a replica: whether it is well. Serve adds the application as ``app``."""

    app: FastAPI

    async def check_health(self) -> None:
        """Raise where it answers nothing; Serve replaces it then."""
        if not self.app.state.service.ready:
            raise RuntimeError("the service of this replica is not ready")


def builder(order: Order) -> Callable[[], FastAPI]:
    """What makes the application of a replica, in its process."""

    def build() -> FastAPI:
        from ray import serve

        return _application(order, serve.get_replica_context().replica_tag)

    return build


def _application(order: Order, name: str) -> FastAPI:
    log = LedgerLog(name)
    peers = ReplicaPeers(log)

    def load() -> Live:
        try:
            peers.loads()
            return Live.open(order.folder, backbone=order.backbone_place(), options=order.options, log=log)
        except StorerecError as error:
            log.ask("fail", error)
            raise
        except Exception:  # a fault of ours: Serve tries again for minutes, and its user sees nothing
            log.ask("fail", RuntimeError(traceback.format_exc()))
            raise

    service = Service(order.folder, load, order.config, peers=peers)
    # Serve sends requests once it has started: a replica that was lost is not replaced by one that refuses
    app = create_app(service, api_key=order.api_key, wait=True)
    _name(app, name)
    return app


def _name(app: FastAPI, name: str) -> None:
    """Have all answers say who gave them: those of faults, too, which Starlette makes outside of its middlewares."""
    stack = app.build_middleware_stack
    app.build_middleware_stack = lambda: _Named(stack(), name=name.encode())  # type: ignore[method-assign]


class _Named:
    """Says in every answer which replica gave it."""

    def __init__(self, app: ASGIApp, *, name: bytes) -> None:
        self._app, self._name = app, name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Answer one request."""

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (REPLICA, self._name)]}
            await send(message)

        await self._app(scope, receive, sent)
