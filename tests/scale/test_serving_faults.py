"""What clients see of faults behind Serve's proxy."""

import httpx
from fastapi import FastAPI

from storerec.scale.front import Front
from storerec.scale.replica import _name
from storerec.serving.failures import add_handlers
from storerec.serving.metrics import Metrics
from tests.serving.asynchronous import asynchronous


@asynchronous
async def test_a_fault_of_ours_is_told_as_one_and_not_as_a_lost_replica():
    app = FastAPI()
    add_handlers(app, Metrics())

    @app.get("/fault")
    async def fault():
        raise RuntimeError("ours")

    _name(app, "one")
    transport = httpx.ASGITransport(app=Front(app), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get("/fault")
        assert (answer.status_code, answer.json()["error"]["type"]) == (500, "internal")
        assert answer.headers["x-replica"] == "one"
        assert (await client.get("/none")).status_code == 404
