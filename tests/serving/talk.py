"""The application in this process, and a client that talks to it as over HTTP."""

import asyncio
import json
from contextlib import asynccontextmanager
from functools import partial

import httpx

from storerec.bundle.journal import Journal
from storerec.pipeline import Live
from storerec.serving import Service, ServingConfig, create_app
from tests.serving.conftest import OPTIONS

NEW = {"item_id": "new-1", "text": {"title": "a purple umbrella", "kind": "umbrellas"}}


class Client(httpx.AsyncClient):
    """Asks the application.

    Attributes
    ----------
    service: what is behind it.
    """

    def __init__(self, app, **more):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        super().__init__(transport=transport, base_url="http://127.0.0.1", timeout=60, **more)
        self.app, self.service = app, app.state.service

    async def recommend(self, history, **more):
        return await self.post("/v1/recommend", json={"history": history} | more)

    async def ids(self, history, **more):
        """Ids recommended."""
        answer = await self.recommend(history, **more)
        assert answer.status_code == 200, answer.text
        return [one["item_id"] for one in answer.json()["items"]]

    async def add(self, *items):
        return await self.post("/v1/items", json={"items": items or [NEW]})

    async def found(self, text):
        """Ids found by title."""
        answer = await self.get("/v1/search", params={"q": text, "limit": 100})
        assert answer.status_code == 200, answer.text
        return [one["item_id"] for one in answer.json()["items"]]

    async def metric(self, name):
        """The value of a line of the metrics; 0 where there is none."""
        lines = (await self.get("/metrics")).text.splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == name), 0.0)

    async def waiting(self, count):
        """Wait until so many requests wait for the model."""
        while await self.metric("storerec_queue_depth") != count:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def talking(folder, *, api_key=None, headers=None, **settings):
    """A client of a service that is ready."""
    config = ServingConfig.parse({"reload_seconds": 0} | settings)
    service = Service(folder, partial(Live.open, folder, options=OPTIONS), config)
    app = create_app(service, api_key=api_key)
    async with app.router.lifespan_context(app), Client(app, headers=headers) as client:
        await service.settled.wait()
        assert service.failure is None, service.failure
        yield client


@asynccontextmanager
async def held_up(client, bundle):
    """Keep the model's thread busy for the length of a block: another process writes, and an addition waits for it.

    Gives the task of the addition.
    """
    with Journal.beside(bundle).alone():
        adding = asyncio.create_task(client.add())
        await asyncio.sleep(0.3)  # it is on the thread by then
        assert not adding.done()
        yield adding
    await adding


def is_error(answer, status, kind, *words):
    """Whether an answer is an error of our shape with these words."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = json.loads(answer.content)
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"type", "message"}
    assert body["error"]["type"] == kind
    assert not [word for word in words if word not in body["error"]["message"]], body
    assert "Traceback" not in answer.text
    assert "\n" not in body["error"]["message"]
    return True
