"""What every request passes before the application sees it: who asks, how much, and how long its body is."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from storerec.serving.config import ServingConfig
from storerec.serving.failures import failure, refusal
from storerec.serving.metrics import Metrics
from storerec.serving.refusals import QueueFullError

OPEN = frozenset({"/healthz", "/readyz"})
"""Paths that need no key and are answered however much there is to do."""

_OWN_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Guard:
    """Lets a request through when its key or host, its body and the number of others allow it.

    Without an API key only requests to a loopback name are taken: a page in a browser on this machine could send
    others here, under a name of its own. The body is read before the application is called, so that none can be longer
    than allowed, whatever its headers say, and none can hold the application up.

    Parameters
    ----------
    app: what is guarded.
    api_key: needed in every request but those to :data:`OPEN`; None needs none.
    without_key: paths that need no key all the same: those of files that say nothing of what is served.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        config: ServingConfig,
        api_key: str | None,
        metrics: Metrics,
        without_key: frozenset[str] = frozenset(),
    ) -> None:
        self._app, self._config, self._metrics, self._without_key = app, config, metrics, without_key
        self._key = None if api_key is None else _digest(api_key.encode())
        self._own_names = _OWN_NAMES | {config.host.lower()}
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refused request, hand on any other."""
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        answer = self._stranger(headers, scope["path"]) or self._crowd()
        if answer is not None:
            await answer(scope, receive, send)
            return
        self._under_way += 1
        try:
            body = await self._body(headers, receive)
            if isinstance(body, Response):
                await body(scope, receive, send)
            elif body is not None:
                await self._app(scope, _again(body, receive), send)
        finally:
            self._under_way -= 1

    def _stranger(self, headers: Mapping[str, str], path: str) -> Response | None:
        if self._key is None:
            if _name(headers.get("host", "")) in self._own_names:
                return None
            text = "without an API key, requests must be sent to localhost; other names need a service with a key"
            return failure(421, "wrong_host", text)
        if path in self._without_key:
            return None
        given = headers.get("x-api-key", "")
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            given = token.strip()
        # digests are of one length, so that the time taken says nothing of the key's
        if hmac.compare_digest(_digest(given.encode("latin-1")), self._key):
            return None
        text = "the API key is missing or wrong; send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
        return failure(401, "unauthorized", text, {"WWW-Authenticate": "Bearer"})

    def _crowd(self) -> Response | None:
        if self._under_way < self._config.max_requests:
            return None
        self._metrics.refused.labels(QueueFullError.kind).inc()
        text = f"{self._under_way} requests are under way, which is as many as may be"
        return refusal(QueueFullError(text, retry_after=1.0))

    async def _body(self, headers: Mapping[str, str], receive: Receive) -> bytes | Response | None:
        """The whole body, None where the client has gone, or the answer why it is not taken."""
        most, seconds = self._config.max_body_bytes, self._config.deadline_seconds
        too_long = failure(413, "body_too_long", f"the body is longer than {most} bytes", {"Connection": "close"})
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > most:
            return too_long
        parts, read, more = list[bytes](), 0, True
        try:
            async with asyncio.timeout(seconds):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    part = message.get("body", b"")
                    read += len(part)
                    if read > most:
                        return too_long
                    parts.append(part)
                    more = message.get("more_body", False)
        except TimeoutError:
            text = f"the body did not come within {seconds:g} seconds"
            return failure(408, "body_too_slow", text, {"Connection": "close"})
        return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read as if it came only now; then what comes after it."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def given() -> Message:
        return waiting.pop() if waiting else await receive()

    return given


def _name(host: str) -> str:
    """A Host header without its port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
