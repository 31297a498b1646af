"""The web application: routes, guard, measures and errors put together around a service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from storerec._version import __version__
from storerec.serving import limits
from storerec.serving.failures import add_handlers
from storerec.serving.files import page_files
from storerec.serving.guard import Guard
from storerec.serving.measure import Measure
from storerec.serving.page import insights, page_router
from storerec.serving.routes import router
from storerec.serving.service import Service

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def create_app(service: Service, *, api_key: str | None = None, wait: bool = False) -> FastAPI:
    """Make the ASGI application of a service, which starts and stops with it.

    Parameters
    ----------
    api_key: asked for in all requests but those to ``/healthz`` and ``/readyz`` and for the page's files; None asks for
        none, and takes requests to loopback names only.
    wait: whether the application has started only when the bundle is loaded, and does not start where that fails.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            if wait:
                await service.loaded()
            yield
        finally:
            await service.stop()

    app = FastAPI(
        title="storerec",
        version=__version__,
        description="Semantic-ID generative recommendation with one language model.",
        lifespan=lifespan,
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    files = page_files()
    app.include_router(router)
    app.include_router(insights)
    app.include_router(page_router(files))
    add_handlers(app, service.metrics)
    app.add_middleware(
        Guard, config=service.config, api_key=api_key, metrics=service.metrics, without_key=frozenset(files)
    )
    app.add_middleware(Measure, metrics=service.metrics)  # the last one added is the outermost

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = FastAPI.openapi(app)
            limits.describe(made, service.config)
            if api_key is not None:
                made["components"]["securitySchemes"] = _SCHEMES
                made["security"] = [{name: []} for name in _SCHEMES]
        return app.openapi_schema or {}

    app.openapi = document  # type: ignore[method-assign]
    return app
