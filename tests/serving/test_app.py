"""What the routes answer, against a real bundle."""

import asyncio
import json

import pytest

from storerec.pipeline import STORE, Live, RecommendRequest
from storerec.pipeline.requests import FALLBACK
from tests.serving.asynchronous import asynchronous
from tests.serving.conftest import OPTIONS
from tests.serving.talk import NEW, is_error, talking


@asynchronous
async def test_recommend_and_score_answer_what_the_store_does(trained):
    store = STORE.load(trained, options=OPTIONS)
    async with talking(trained) as client:
        body = (await client.recommend(["item-0", "item-3"], k=7, exclude=["item-6"], exclude_history=True)).json()
        expected = store.recommend(["item-0", "item-3"], 7, exclude=["item-6"], exclude_history=True)
        assert [one["item_id"] for one in body["items"]] == [one.item_id for one in expected]
        assert [one["title"] for one in body["items"]] == [one.title for one in expected]
        assert [one["score"] for one in body["items"]] == pytest.approx([one.score for one in expected], abs=1e-5)
        assert [tuple(one["codes"]) for one in body["items"]] == [one.codes for one in expected]
        assert (body["unknown"], body["fallback"]) == ([], None)
        asked = {"history": ["item-0", "nowhere"], "candidates": ["item-9", "item-1"]}
        body = (await client.post("/v1/score", json=asked)).json()
        expected = store.score(["item-0"], ["item-9", "item-1"])
        assert [one["item_id"] for one in body["items"]] == [one.item_id for one in expected]
        assert [one["score"] for one in body["items"]] == pytest.approx([one.score for one in expected], abs=1e-5)
        assert (body["unknown"], body["scored_by"]) == (["nowhere"], "log-probability")


@asynchronous
async def test_unknown_ids_are_told_and_an_empty_history_gets_what_is_said(trained):
    async with talking(trained) as client:
        some = (await client.recommend(["x-1", "item-0", "x-2"])).json()
        assert (some["unknown"], some["fallback"]) == (["x-1", "x-2"], None)
        assert some["items"] == (await client.recommend(["item-0"])).json()["items"]
        empty, strange = (await client.recommend([])).json(), (await client.recommend(["x-1"])).json()
        assert len(empty["items"]) == 10
        assert empty["items"] == strange["items"]
        assert (empty["fallback"], strange["fallback"]) == (FALLBACK, FALLBACK)
        assert (empty["unknown"], strange["unknown"]) == ([], ["x-1"])


@asynchronous
async def test_a_filter_leaves_only_what_matches(trained):
    async with talking(trained) as client:
        hats = await client.ids(["item-0"], k=24, where={"kind": ["blue hats"]})
        assert sorted(hats) == sorted(f"item-{i}" for i in range(1, 24, 3))
        both = await client.ids(["item-0"], k=24, where={"kind": ["blue hats", "red shoes"]})
        assert len(both) == 16
        one = {"kind": ["blue hats"], "title": ["blue hats number 4"]}
        assert await client.ids(["item-0"], where=one) == ["item-4"]
        assert await client.ids(["item-0"], where={"kind": ["gloves"]}) == []
        answer = await client.recommend(["item-0"], where={"colour": ["blue"]})
        assert is_error(answer, 422, "invalid_request", "colour", "kind")


@asynchronous
async def test_requests_at_the_same_time_share_batches_and_get_what_they_would_alone(trained):
    histories = [[f"item-{i}", f"item-{(i + 3) % 24}"] for i in range(12)]
    live = Live.open(trained, options=OPTIONS)
    alone = [live.recommend([RecommendRequest(tuple(one), k=5)])[0] for one in histories]
    async with talking(trained, max_batch=6, max_wait_ms=500) as client:
        together = await asyncio.gather(*[client.ids(one, k=5) for one in histories])
        assert together == [[one.item_id for one in answer.items] for answer in alone]
        assert await client.metric('storerec_batch_size_count{kind="recommend"}') == 2
        assert await client.metric('storerec_batch_size_sum{kind="recommend"}') == 12
        assert await client.metric('storerec_queue_seconds_count{kind="recommend"}') == 12


@asynchronous
async def test_a_bad_request_of_a_batch_harms_no_other(trained):
    async with talking(trained, max_wait_ms=500, max_batch=2) as client:
        bad, good = client.recommend(["item-0"], exclude=["x-9"]), client.recommend(["item-0"])
        bad, good = await asyncio.gather(bad, good)
        assert is_error(bad, 422, "invalid_request", "exclude", "x-9")
        assert len(good.json()["items"]) == 10
        assert await client.metric('storerec_batch_size_count{kind="recommend"}') == 1
        answer = await client.post("/v1/score", json={"history": [], "candidates": ["item-1", "x-7"]})
        assert is_error(answer, 422, "invalid_request", "x-7")


@asynchronous
async def test_an_item_and_search(trained):
    store = STORE.load(trained, options=OPTIONS)
    async with talking(trained) as client:
        body = (await client.get("/v1/items/item-7?neighbours=3")).json()
        expected = store.explain("item-7", neighbours=3)
        assert (body["item_id"], body["text"], tuple(body["codes"])) == ("item-7", expected.text, expected.codes)
        near = [(one["item_id"], one["title"], one["distance"]) for one in body["neighbours"]]
        assert tuple(near) == expected.neighbours
        assert is_error(await client.get("/v1/items/x-1"), 404, "unknown_item", "x-1")
        assert is_error(await client.delete("/v1/items/x-1"), 404, "unknown_item", "x-1")
        assert sorted(await client.found("HATS number 1")) == ["item-1", "item-10", "item-13", "item-16", "item-19"]
        assert await client.found("no such thing") == []
        assert len((await client.get("/v1/search?q=number&limit=4")).json()["items"]) == 4


@asynchronous
async def test_items_come_and_go_at_once_and_are_there_when_it_is_opened_again(folder):
    async with talking(folder) as client:
        answer = (await client.add()).json()["items"]
        assert [(one["item_id"], one["status"]) for one in answer] == [("new-1", "added")]
        assert "new-1" in await client.ids(["item-0"], k=25)
        with_none, with_all = [await client.ids(["item-0"], k=5, new_share=share) for share in (0, 1)]
        assert with_all == ["new-1", *(one for one in with_none if one != "new-1")][:5] != with_none
        shown = (await client.get("/v1/items/new-1")).json()
        assert (shown["text"], shown["codes"]) == (NEW["text"], answer[0]["codes"])
        assert await client.found("umbrella") == ["new-1"]
        assert (await client.delete("/v1/items/item-2")).json() == {"item_id": "item-2", "status": "removed"}
        assert (await client.delete("/v1/items/item-2")).json()["status"] == "absent"
        assert "item-2" not in await client.ids(["item-0"], k=25)
        assert is_error(await client.get("/v1/items/item-2"), 404, "unknown_item", "item-2", "removed")
        assert (await client.add()).json()["items"][0]["status"] == "unchanged"
        part = {"item_id": "new-1", "text": {"title": "a green umbrella"}}
        assert (await client.add(part)).json()["items"][0] == answer[0] | {"status": "updated"}
        assert await client.metric("storerec_items") == 25
        before = await client.ids(["item-0", "new-1"], k=25)
    async with talking(folder) as client:
        assert await client.ids(["item-0", "new-1"], k=25) == before
        shown = (await client.get("/v1/items/new-1")).json()
        assert shown["text"] == {"title": "a green umbrella", "kind": "umbrellas"}
        back = {"item_id": "item-2", "text": {"title": "green coats number 2"}}
        assert (await client.add(back)).json()["items"][0]["status"] == "restored"
        assert "item-2" in await client.ids(["item-0"], k=25)


@asynchronous
async def test_an_id_may_hold_anything_and_names_no_file(folder):
    strange = ["../../etc/passwd", "a/b", "ü ö?&#", ".", "%2e%2e"]
    async with talking(folder) as client:
        await client.add(*[{"item_id": one, "text": {"title": f"thing {one}"}} for one in strange])
        for one in strange:
            path = "/v1/items/" + "".join(f"%{byte:02x}" for byte in one.encode())
            assert (await client.get(path)).json()["item_id"] == one
            assert (await client.delete(path)).json()["status"] == "removed"
    assert {path.name.partition(".sqlite")[0] for path in folder.parent.iterdir()} == {"bundle", "bundle.changes"}


@asynchronous
async def test_a_refused_addition_names_the_fault_and_adds_nothing(folder):
    async with talking(folder) as client:
        for item, *words in (
            ({"item_id": "n", "text": {"title": "x", "colour": "red"}}, "'n'", "colour", "kind"),
            ({"item_id": "n", "text": {"title": " ", "kind": ""}}, "'n'", "empty"),
            ({"item_id": "new-1", "text": {"title": "again"}}, "new-1", "twice"),
            ({"item_id": "n", "text": {}}, "items.1.text"),
            ({"item_id": "", "text": {"title": "x"}}, "items.1.item_id"),
            ({"item_id": "n", "text": {"title": "\ud800"}}, "items.1.text"),
            ({"item_id": "n", "text": {"title": 3}}, "items.1.text.title"),
            ({"item_id": "n", "text": {"title": "x"}, "price": 3}, "items.1.price"),
        ):
            content = json.dumps({"items": [NEW, item]})  # what no encoding can write is written as escapes
            answer = await client.post("/v1/items", content=content, headers={"Content-Type": "application/json"})
            assert is_error(answer, 422, "invalid_request", *words)
        assert await client.found("umbrella") == []
        assert await client.metric("storerec_items") == 24


@asynchronous
async def test_an_answer_is_kept_until_an_item_changes_in_whatever_process(folder):
    async with talking(folder, cache_size=2, reload_seconds=0.05) as client:

        async def hits():
            return await client.metric("storerec_cache_hits_total")

        first = (await client.recommend(["item-0"], k=25)).json()
        assert (await client.recommend(["item-0"], k=25)).json() == first
        assert await hits() == 1
        await client.recommend(["item-0"], k=24)
        assert await hits() == 1
        await client.add()
        assert "new-1" in await client.ids(["item-0"], k=25)
        assert await hits() == 1
        await client.ids(["item-1"])
        await client.ids(["item-2"])
        await client.ids(["item-0"], k=25)  # two are kept, so this one is not any more
        assert await hits() == 1
        other = Live.open(folder, options=OPTIONS)
        other.remove_items(["new-1"])
        other.close()
        async with asyncio.timeout(20):
            while "new-1" in await client.ids(["item-0"], k=25):
                await asyncio.sleep(0.02)
        assert await client.metric("storerec_cache_misses_total") >= 6


@asynchronous
async def test_what_cannot_be_written_down_is_an_error_and_not_done(folder):
    async with talking(folder) as client:
        (folder.parent / "bundle.changes.sqlite").mkdir()
        answer = await client.add()
        assert is_error(answer, 500, "internal")
        assert str(folder) not in answer.text
        (folder.parent / "bundle.changes.sqlite").rmdir()
        assert await client.found("umbrella") == []
        assert (await client.add()).json()["items"][0]["status"] == "added"
