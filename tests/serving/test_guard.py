"""Keys, hosts, bodies and limits: what is refused before the model hears of it."""

import asyncio

import pytest

from storerec.errors import ConfigError
from storerec.serving import ServingConfig
from storerec.serving.key import VARIABLE, read_key
from tests.serving.asynchronous import asynchronous
from tests.serving.talk import NEW, is_error, talking

KEY = "0123456789abcdef-key"


@asynchronous
async def test_every_request_needs_the_key_but_the_probes(trained):
    async with talking(trained, api_key=KEY) as client:
        paths = ("/v1/items/item-1", "/v1/search?q=hats", "/metrics", "/openapi.json", "/nowhere")
        wrong = (
            {}, {"X-API-Key": ""}, {"X-API-Key": KEY[:-1]}, {"X-API-Key": KEY + "x"}, {"Authorization": KEY},
            {"Authorization": f"Basic {KEY}"}, {"Authorization": "Bearer "}, {"X-API-Key": "ü".encode()},
            {"X-API-Key": KEY, "Authorization": "Bearer other"},
        )  # fmt: skip
        for path in paths:
            for headers in wrong:
                answer = await client.get(path, headers=headers)
                assert is_error(answer, 401, "unauthorized")
                assert answer.headers["www-authenticate"] == "Bearer"
        for headers in ({"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY}"}, {"Authorization": f"bearer {KEY}"}):
            for path in paths[:-1]:
                assert (await client.get(path, headers=headers | {"Host": "shop.example"})).status_code == 200
        assert (await client.get("/healthz")).status_code == (await client.get("/readyz")).status_code == 200
        answer = await client.post("/v1/items", json={"items": [NEW]})
        assert is_error(answer, 401, "unauthorized")


@asynchronous
async def test_without_a_key_only_names_of_this_machine_are_served(trained):
    async with talking(trained) as client:
        for host in ("localhost", "127.0.0.1:8000", "[::1]:80", "LocalHost:1"):
            assert (await client.get("/v1/items/item-1", headers={"Host": host})).status_code == 200
        for host in ("evil.example", "localhost.evil.example:8000", "127.0.0.1.evil.example", ""):
            answer = await client.get("/v1/items/item-1", headers={"Host": host})
            assert is_error(answer, 421, "wrong_host")
        body = b'{"items": [{"item_id": "n", "text": {"title": "x"}}]}'  # as a page elsewhere could send it
        for kind in ("text/plain", "application/x-www-form-urlencoded", None):
            headers = {} if kind is None else {"Content-Type": kind}
            assert is_error(await client.post("/v1/items", content=body, headers=headers), 422, "invalid_request")
        assert await client.metric("storerec_items") == 24


@asynchronous
async def test_a_body_has_a_limit_whatever_its_headers_say(folder):
    async with talking(folder, max_body_bytes=300) as client:
        long = {"item_id": "n", "text": {"title": "x" * 300}}
        assert is_error(await client.add(long), 413, "body_too_long", "300 bytes")

        async def parts(count):
            for _ in range(count):
                yield b" " * 100

        async def whole():
            yield b'{"items": [{"item_id": "n", '
            yield b'"text": {"title": "x"}}]}'

        headers = {"Content-Type": "application/json"}
        endless = await client.post("/v1/items", content=parts(1000), headers=headers)
        assert is_error(endless, 413, "body_too_long")
        assert is_error(await client.get("/v1/search?q=x", headers={"Content-Length": "9" * 30}), 413, "body_too_long")
        assert await client.found("x") == []
        assert (await client.post("/v1/items", content=whole(), headers=headers)).status_code == 200
        assert await client.metric('storerec_request_seconds_count{route="none",status="413"}') == 3


@asynchronous
async def test_a_body_that_does_not_come_is_408_and_others_are_answered_meanwhile(trained):
    async with talking(trained, deadline_seconds=2, max_requests=2) as client:
        await client.recommend(["item-0"])

        async def stuck():
            yield b'{"history": '
            await asyncio.sleep(30)

        headers = {"Content-Type": "application/json"}
        slow = asyncio.create_task(client.post("/v1/recommend", content=stuck(), headers=headers))
        await asyncio.sleep(0.05)
        assert (await client.recommend(["item-0"])).status_code == 200
        again = asyncio.create_task(client.post("/v1/recommend", content=stuck(), headers=headers))
        await asyncio.sleep(0.05)
        answer = await client.recommend(["item-0"])  # two are under way, as many as may be
        assert is_error(answer, 429, "queue_full")
        assert answer.headers["retry-after"] == "1"
        assert (await client.get("/healthz")).status_code == 200
        for task in (slow, again):
            assert is_error(await task, 408, "body_too_slow")
        assert (await client.recommend(["item-0"])).status_code == 200


@asynchronous
async def test_lists_and_numbers_have_limits_that_the_error_names(trained):
    limits = {"max_history": 3, "max_exclude": 2, "max_k": 12, "max_candidates": 2, "max_items": 1}
    async with talking(trained, **limits) as client:
        for path, body, *words in (
            ("recommend", {"history": ["item-0"] * 4}, "history", "at most 3"),
            ("recommend", {"history": [], "k": 13}, "k", "at most 12"),
            ("recommend", {"history": [], "k": 0}, "k:"),
            ("recommend", {"history": [], "k": "5"}, "k:"),
            ("recommend", {"history": [], "exclude": ["item-0"] * 3}, "exclude", "at most 2"),
            ("recommend", {"history": ["x" * 600]}, "history.0"),
            ("recommend", {"history": [], "where": {"kind": []}}, "where.kind"),
            ("recommend", {}, "history"),
            ("recommend", [], "body"),
            ("recommend", {"history": [], "top": 3}, "top"),
            ("score", {"history": [], "candidates": []}, "candidates"),
            ("score", {"history": [], "candidates": ["item-1"] * 3}, "candidates", "at most 2"),
            ("items", {"items": [NEW, NEW]}, "items", "at most 1"),
            ("items", {"items": []}, "items"),
        ):
            answer = await client.post(f"/v1/{path}", json=body)
            assert is_error(answer, 422, "invalid_request", *words)
        for query in ("", "q=", f"q={'x' * 201}", "q=x&limit=0", "q=x&limit=101", "q=x&limit=a"):
            assert is_error(await client.get(f"/v1/search?{query}"), 422, "invalid_request")


@asynchronous
async def test_what_is_no_request_of_ours_is_an_error_of_one_shape(trained):
    async with talking(trained) as client:
        headers = {"Content-Type": "application/json"}
        for content in (b"{", b'{"history": ["\xff"]}', b"[" * 200_000, b'{"history": [], "k": ' + b"9" * 5000 + b"}"):
            answer = await client.post("/v1/recommend", content=content, headers=headers)
            assert answer.status_code in (400, 422)
            assert is_error(
                answer, answer.status_code, {400: "bad_request", 422: "invalid_request"}[answer.status_code]
            )
        nan = await client.post("/v1/recommend", content=b'{"history": [], "k": NaN}', headers=headers)
        assert is_error(nan, 422, "invalid_request", "k")
        assert is_error(await client.get("/docs"), 404, "not_found")
        assert is_error(await client.get("/v1/items"), 405, "method_not_allowed")
        assert is_error(await client.put("/v1/items/item-1"), 405, "method_not_allowed")


def test_loopback_addresses():
    for host in ("127.0.0.1", "127.8.8.8", "localhost", "::1"):
        assert ServingConfig(host=host).is_local
    for host in ("0.0.0.0", "::", "192.168.1.7", "shop.example", "localhost.example", "127.0.0.1.example"):
        assert not ServingConfig(host=host).is_local


def test_the_key_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert read_key(None) is None
    monkeypatch.setenv(VARIABLE, f" {KEY}\n")
    assert read_key(None) == KEY
    (tmp_path / "key").write_text(f"{KEY}-of-the-file\n")
    assert read_key(tmp_path / "key") == f"{KEY}-of-the-file"
    for bad in ("", "short", "two words that are long", "line one is long\nand another one", "ü" * 20):
        monkeypatch.setenv(VARIABLE, bad)
        with pytest.raises(ConfigError, match=VARIABLE):
            read_key(None)
    with pytest.raises(ConfigError, match="nowhere"):
        read_key(tmp_path / "nowhere")
