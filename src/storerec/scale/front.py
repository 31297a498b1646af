"""What Serve's HTTP proxies say themselves, in the shape of the service's own errors.

Imported by the proxies' processes, which hold no model: so nothing of the service is imported here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.middleware import Middleware
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PLACE = "storerec.scale.front.middlewares"
"""Where the proxies find :func:`middlewares`."""

REPLICA = b"x-replica"
"""Header of what a replica answered: its name."""

_LOST = (
    503,
    "replica_lost",
    "the replica that worked on this was lost; what it changes may be changed all the same: ask again",
)
_SAID = {
    429: (429, "queue_full", "all replicas have as many requests as they may have"),
    404: (503, "not_ready", "the service is not started, or it is stopping"),
    408: (503, "deadline_passed", "no answer within the time that the request gave itself"),
    503: (503, "not_ready", "no replica can answer"),
}


class Front:
    """Hands requests on, and answers those that no replica has answered.

    Serve's proxy gives a lost replica's clients a bare 500, which could be a fault of ours as well. Asking again is
    right here, whatever was asked: adding or removing once more changes nothing.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; other traffic, and Serve's own pages below ``/-/``, pass."""
        if scope["type"] != "http" or scope["path"].startswith("/-/"):
            await self._app(scope, receive, send)
            return
        begun, held = False, 0

        async def sent(message: Message) -> None:
            nonlocal begun, held
            if message["type"] == "http.response.start":
                named = any(name.lower() == REPLICA for name, _ in message.get("headers", ()))
                if not named and message["status"] >= 400:
                    held = message["status"]
                begun = not held
            if not held:
                await send(message)

        await self._app(scope, receive, sent)
        if not begun:
            for message in _refusal(*_SAID.get(held, _LOST)):
                await send(message)


def _refusal(status: int, kind: str, text: str) -> tuple[Message, Message]:
    body = json.dumps({"error": {"type": kind, "message": text}}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", b"1"),
    ]
    start: Message = {"type": "http.response.start", "status": status, "headers": headers}
    return start, {"type": "http.response.body", "body": body}


def middlewares() -> list[Middleware]:
    """What Serve's proxies put around what they do."""
    from starlette.middleware import Middleware

    return [Middleware(Front)]
