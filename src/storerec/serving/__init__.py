"""The HTTP service: requests gathered into batches for one thread that holds the model."""

from __future__ import annotations

from storerec.errors import MissingExtraError

try:
    from storerec.serving.app import create_app
    from storerec.serving.config import ServingConfig
    from storerec.serving.server import serve
    from storerec.serving.service import Service
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("fastapi", "starlette", "uvicorn", "prometheus_client"):
        raise
    raise MissingExtraError(
        f"serving needs {error.name}, which is not installed; install it with: pip install 'storerec[serve]'"
    ) from None

__all__ = ["Service", "ServingConfig", "create_app", "serve"]
