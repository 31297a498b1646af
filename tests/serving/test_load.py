"""More requests than can be answered: refused or given up in time, and never piled up."""

import asyncio
import json
import time

from tests.serving.asynchronous import asynchronous
from tests.serving.talk import held_up, is_error, talking


@asynchronous
async def test_a_full_queue_is_429_with_retry_after(folder):
    async with talking(folder, queue_size=2, deadline_seconds=40) as client:
        async with held_up(client, folder) as adding:
            waiting = [asyncio.create_task(client.recommend([f"item-{i}"])) for i in range(2)]
            await client.waiting(2)
            asked = [client.recommend(["item-5"]) for _ in range(3)]
            for answer in await asyncio.gather(*asked, client.get("/v1/search?q=hats")):
                assert is_error(answer, 429, "queue_full")
                assert int(answer.headers["retry-after"]) >= 1
            assert (await client.get("/healthz")).json() == {"status": "ok"}
            assert (await client.get("/readyz")).status_code == 200
            assert await client.metric('storerec_refused_total{reason="queue_full"}') == 4
        assert (await adding).json()["items"][0]["status"] == "added"
        assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200, 200]
        assert await client.metric("storerec_queue_depth") == 0


@asynchronous
async def test_past_its_deadline_a_request_is_503(folder):
    async with talking(folder, deadline_seconds=0.6) as client:
        async with held_up(client, folder) as adding:
            begun = time.monotonic()
            answer = await client.recommend(["item-0"])
            assert 0.5 < time.monotonic() - begun < 10
            assert is_error(answer, 503, "deadline_passed", "0.6 seconds")
            assert int(answer.headers["retry-after"]) >= 1
            assert is_error(await adding, 503, "deadline_passed", "had begun")
            assert await client.metric("storerec_queue_depth") == 0
            assert await client.metric('storerec_refused_total{reason="deadline_passed"}') == 2
        async with asyncio.timeout(20):
            while (await client.recommend(["item-0"])).status_code != 200:
                pass
        assert await client.found("umbrella") == ["new-1"]


@asynchronous
async def test_what_a_client_asked_that_has_gone_is_not_computed(folder):
    async with talking(folder, deadline_seconds=40) as client:
        gone = asyncio.Event()
        body = json.dumps({"history": ["item-0"]}).encode()
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive():
            if messages:
                return messages.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(_):
            pass

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {
            "type": "http", "method": "POST", "path": "/v1/recommend", "headers": headers, "query_string": b"",
            "http_version": "1.1", "scheme": "http", "server": ("localhost", 80), "root_path": "", "asgi": {},
        }  # fmt: skip
        async with held_up(client, folder):
            asked = asyncio.create_task(client.app(scope, receive, send))
            await client.waiting(1)
            gone.set()
            await client.waiting(0)
            await asyncio.wait([asked])
        await client.found("hats")
        assert await client.metric('storerec_batch_size_count{kind="recommend"}') == 0
