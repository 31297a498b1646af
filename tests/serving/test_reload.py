"""A new bundle takes the old one's place while requests go on."""

import asyncio
from contextlib import asynccontextmanager

import polars as pl

from storerec.data.catalogue import Catalogue
from storerec.errors import BundleError
from storerec.pipeline import STORE, Live
from storerec.serving import Service, ServingConfig, create_app
from storerec.serving import service as module
from storerec.serving.reload import BundleWatch
from tests.serving.asynchronous import asynchronous, until
from tests.serving.conftest import OPTIONS
from tests.serving.talk import Client, is_error, talking

LATER = pl.DataFrame({"item_id": ["later-1"], "title": ["a yellow scarf"], "kind": ["scarves"]})


def newer(trained):
    """The bundle with one item more, as a new training would give it."""
    store = STORE.load(trained, options=OPTIONS)
    store.add_items(Catalogue.from_frame(LATER))
    return store


@asynchronous
async def test_no_request_is_dropped_and_no_item_is_lost(trained, folder):
    store = newer(trained)
    async with talking(folder, reload_seconds=0.05, cache_size=0, deadline_seconds=40) as client:
        going, added, statuses = True, [], []

        async def ask(number):
            while going:
                statuses.append((await client.recommend([f"item-{number}"])).status_code)

        async def add():
            while going:
                item = {"item_id": f"n-{len(added)}", "text": {"title": f"thing {len(added)}"}}
                statuses.append((await client.add(item)).status_code)
                added.append(item["item_id"])
                await asyncio.sleep(0.05)

        tasks = [asyncio.create_task(work) for work in (ask(0), ask(1), ask(2), add())]
        await until(lambda: added)
        await asyncio.to_thread(store.save, folder)
        async with asyncio.timeout(30):
            while await client.found("yellow scarf") != ["later-1"]:
                await asyncio.sleep(0.02)
        seen = len(added)
        await until(lambda: len(added) > seen)
        going = False
        await asyncio.gather(*tasks)
        assert set(statuses) == {200}
        assert sorted(await client.found("thing")) == sorted(added)
        assert await client.metric('storerec_reloads_total{result="done"}') == 1
        assert {"later-1", *added} < set(await client.ids(["item-0"], k=100))
    async with talking(folder) as client:
        assert sorted(await client.found("thing")) == sorted(added)


@asynchronous
async def test_a_reload_by_signal_and_a_bundle_that_cannot_be_read(folder):
    async with talking(folder) as client:
        client.service.reload_soon()
        async with asyncio.timeout(30):
            while await client.metric('storerec_reloads_total{result="done"}') < 1:
                await asyncio.sleep(0.02)
        before = await client.ids(["item-0"])
        victim = folder / "table.safetensors"
        victim.unlink()  # not written over: what is served has it mapped
        victim.write_bytes(b"broken")
        client.service.reload_soon()
        async with asyncio.timeout(30):
            while await client.metric('storerec_reloads_total{result="failed"}') < 1:
                await asyncio.sleep(0.02)
        assert await client.ids(["item-0"]) == before
        assert (await client.add()).json()["items"][0]["status"] == "added"
        assert (await client.get("/readyz")).status_code == 200


@asynchronous
async def test_before_the_model_is_loaded_requests_are_told_to_come_back(trained):
    may_load = asyncio.Event()
    loop = asyncio.get_running_loop()

    def load():
        asyncio.run_coroutine_threadsafe(may_load.wait(), loop).result()
        return Live.open(trained, options=OPTIONS)

    service = Service(trained, load, ServingConfig(reload_seconds=0))
    app = create_app(service)
    async with app.router.lifespan_context(app), Client(app) as client:
        assert (await client.get("/healthz")).status_code == 200
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()) == (503, {"status": "not ready"})
        answer = await client.recommend(["item-0"])
        assert is_error(answer, 503, "not_ready")
        assert answer.headers["retry-after"] == "1"
        assert await client.metric("storerec_ready") == 0
        may_load.set()
        await service.settled.wait()
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.recommend(["item-0"])).status_code == 200
        assert await client.metric("storerec_ready") == 1


def test_a_watch_sees_a_new_bundle_once_and_no_half_of_one(trained, tmp_path):
    store = STORE.load(trained, options=OPTIONS)
    store.save(tmp_path / "run" / "bundle")
    watches = [BundleWatch(tmp_path / "run"), BundleWatch(tmp_path / "run" / "bundle")]
    assert [watch.changed() for watch in watches] == [False, False]
    store.save(tmp_path / "run" / "bundle")
    assert [watch.changed() for watch in watches] == [True, True]
    assert [watch.changed() for watch in watches] == [False, False]
    (tmp_path / "run" / "bundle").rename(tmp_path / "away")
    assert [watch.changed() for watch in watches] == [False, False]
    (tmp_path / "away").rename(tmp_path / "run" / "bundle")
    assert [watch.changed() for watch in watches] == [False, False]


class Others:
    """Peers that ask for a reload when they are told to."""

    name = "one"

    def __init__(self):
        self.asked = False

    async def newest(self):
        return 0

    @asynccontextmanager
    async def reload_turn(self):
        yield

    def reload_asked(self):
        asked, self.asked = self.asked, False
        return asked


@asynchronous
async def test_with_peers_a_reload_is_done_when_asked_for_and_tried_until_it_works(trained, monkeypatch):
    monkeypatch.setattr(module, "_PEERS_SECONDS", 0.02)
    broken = []

    def load():
        if broken and broken.pop():
            raise BundleError("not whole yet")
        return Live.open(trained, options=OPTIONS)

    peers = Others()
    service = Service(trained, load, ServingConfig(reload_seconds=0), peers=peers)
    app = create_app(service, wait=True)
    async with app.router.lifespan_context(app), Client(app) as client:
        broken += [True] * 2
        peers.asked = True
        async with asyncio.timeout(60):
            while not (text := (await client.get("/metrics")).text).count(
                'storerec_reloads_total{replica="one",result="done"} 1.0'
            ):
                assert 'result="done"} 2' not in text
                await asyncio.sleep(0.02)
        assert 'storerec_reloads_total{replica="one",result="failed"} 2.0' in text
        await asyncio.sleep(0.3)
        assert 'result="done"} 1.0' in (await client.get("/metrics")).text  # and no more
