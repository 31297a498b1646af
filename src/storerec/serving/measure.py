"""Measures every request from its first byte to its last."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from storerec.serving.metrics import Metrics


class Measure:
    """Hands requests on and notes their route, status and seconds."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Measure one request; other traffic passes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), "500"

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            # the route's pattern, not the path: a label of what clients send would grow without bound
            route = getattr(scope.get("route"), "path_format", "none")
            self._metrics.request_seconds.labels(route, status).observe(time.perf_counter() - begun)
