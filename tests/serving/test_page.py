"""The page's files and what it asks for, against a small trained shop."""

import hashlib
import itertools
import math
import posixpath
import re
import shutil
from importlib.resources import files

import pytest

from storerec.llm.progress import Progress
from storerec.pipeline import RunFolder
from storerec.pipeline.evaluate import evaluate_run
from storerec.serving.files import page_files
from tests.serving.asynchronous import asynchronous
from tests.serving.conftest import OPTIONS
from tests.serving.talk import NEW, is_error, talking

FILES = page_files()
OWN = {path: one.content.decode() for path, one in FILES.items() if "/vendor/" not in path}
KEY = "0123456789abcdef-key"


async def raw_get(app, path):
    """Ask for a path as it is, which a client would tidy up: status and body."""
    sent = []
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": [(b"host", b"127.0.0.1")],
        "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1), "asgi": {"version": "3.0"},
    }  # fmt: skip

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], b"".join(one.get("body", b"") for one in sent)


@asynchronous
async def test_every_file_is_served_with_its_type_and_a_strict_policy(trained):
    async with talking(trained) as client:
        assert {"/", "/static/js/main.js", "/static/vendor/preact.module.js", "/static/style/base.css"} <= FILES.keys()
        for path, one in FILES.items():
            answer = await client.get(path)
            assert (answer.status_code, answer.content) == (200, one.content), path
            assert answer.headers["content-type"].startswith(one.media_type)
            policy = answer.headers["content-security-policy"].split("; ")
            assert "default-src 'self'" in policy
            assert "unsafe" not in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"
            again = await client.get(path, headers={"If-None-Match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            other = await client.get(path, headers={"If-None-Match": '"of-another-version"'})
            assert other.content == one.content
            head = await client.head(path)
            assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", answer.headers["etag"])
        assert is_error(await client.post("/"), 405, "method_not_allowed")


@asynchronous
async def test_nothing_but_the_files_is_served(trained):
    web = str(files("storerec.serving") / "web")
    tricks = [
        *(
            "/static/",
            "/static",
            "/static/js",
            "/static/js/",
            "/static/index.html",
            "/index.html",
            "/static/nothing.js",
        ),
        *("/static/../page.py", "/static/js/../../../page.py", "/static/./js/main.js", "/static//js/main.js"),
        *("/static/..%2fpage.py", "/static/..\\page.py", "/static/js/main.js/", "/static/js/main.js\0", "//static"),
        *(f"/static/{web}/index.html", "/static//etc/passwd", "/static/../../../../../../etc/passwd", "/favicon.ico"),
    ]
    async with talking(trained) as client:
        for path in tricks:
            status, body = await raw_get(client.app, path)
            assert status == 404, path
            assert b"passwd" not in body
            assert b"import" not in body
        assert (await raw_get(client.app, "/static/js/main.js"))[0] == 200
        assert is_error(await client.get("/static/%2e%2e/page.py"), 404, "not_found")


@asynchronous
async def test_the_files_need_no_key_and_all_else_does(trained):
    async with talking(trained, api_key=KEY) as client:
        for path in FILES:
            assert (await client.get(path)).status_code == 200
        for path in ("/v1/about", "/v1/map", "/static/nothing.js", "/static/js"):
            assert is_error(await client.get(path), 401, "unauthorized")
        assert is_error(await client.post("/v1/why", json={"history": [], "item_id": "item-1"}), 401, "unauthorized")
        assert (await client.get("/v1/about", headers={"X-API-Key": KEY})).status_code == 200


def test_no_file_of_the_page_points_to_another_host():
    for path, one in FILES.items():
        text = re.sub(r"http://www\.w3\.org/[\w/]+", "", one.content.decode())  # names, which are never asked for
        if path.endswith((".md", ".txt")):
            continue
        assert not re.findall(r"\b(?:https?|wss?|ftp):|[\"'(`]//|@import|url\(", text), path


def test_the_page_has_no_script_or_style_of_its_own_and_finds_all_its_files():
    start = OWN["/"]
    assert not re.findall(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|javascript:", start)
    for place in re.findall(r'(?:src|href)="([^"]+)"', start):
        assert f"/{place}" in FILES, place
    scripts = [path for path in FILES if path.endswith(".js")]
    for path in scripts:
        for place in re.findall(r'(?:from|import)\s*"([^"]+)"', FILES[path].content.decode()):
            assert posixpath.normpath(posixpath.join(posixpath.dirname(path), place)) in FILES, (path, place)
    for path, text in OWN.items():
        assert not re.findall(r"innerHTML|dangerouslySet|\beval\(|new Function|document\.write", text), path
        assert text.count("\n") <= 260, path


def test_what_is_vendored_is_what_the_note_says():
    note = FILES["/static/vendor/VENDORED.md"].content.decode()
    told = dict(re.findall(r"`([\w.-]+\.(?:js|txt))`[^\n]*?`([0-9a-f]{64})`", note))
    there = {path.rpartition("/")[2]: one for path, one in FILES.items() if "/vendor/" in path}
    assert told.keys() == there.keys() - {"VENDORED.md"}
    for name, digest in told.items():
        assert hashlib.sha256(there[name].content).hexdigest() == digest, name
    assert all("MIT" in there[name].content.decode() or "Apache" in there[name].content.decode()
               for name in told if name.startswith("LICENSE"))  # fmt: skip


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


def test_texts_are_easy_to_read_on_what_they_stand_on():
    blocks = re.findall(r":root[^{]*\{([^}]*--paper[^}]*)\}", OWN["/static/style/base.css"])
    assert len(blocks) == 3
    themes = [dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6});", block)) for block in blocks]
    assert themes[1] == themes[2]  # dark by the system and by choice
    for theme in themes:
        for text, ground in itertools.product(("--ink", "--quiet", "--accent"), ("--paper", "--sheet", "--tint")):
            assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground)
        assert contrast(theme["--on-accent"], theme["--accent"]) >= 4.5
        assert contrast(theme["--wrong"], theme["--wrong-tint"]) >= 4.5
        assert contrast(theme["--wrong"], theme["--sheet"]) >= 4.5
        assert contrast(theme["--edge"], theme["--sheet"]) >= 3  # borders of fields


@asynchronous
async def test_why_follows_the_codes_to_the_score_of_the_list(trained):
    async with talking(trained) as client:
        history = ["item-0", "item-3", "nobody"]
        listed = (await client.recommend(history, k=24)).json()["items"]
        assert len(listed) == 24
        for item in (listed[0], listed[7], listed[-1]):
            answer = await client.post("/v1/why", json={"history": history, "item_id": item["item_id"], "others": 3})
            why = answer.json()
            assert (why["item_id"], why["title"]) == (item["item_id"], item["title"])
            assert [step["chosen"]["code"] for step in why["steps"]] == item["codes"]
            for step in why["steps"]:
                weights = [one["probability"] for one in step["others"]]
                assert weights == sorted(weights, reverse=True)
                assert sum(weights) + step["chosen"]["probability"] <= 1 + 1e-4
                assert all(one["items"] >= len(one["titles"]) >= 1 for one in [step["chosen"], *step["others"]])
                assert len(step["others"]) <= 3
            assert why["score"] == pytest.approx(item["score"], abs=1e-4)
            factors = [step["chosen"]["probability"] for step in why["steps"]] + [why["share"]]
            by_codes = math.log(math.prod(factors))
            alone = 0 if why["alone"] is None else math.log(why["alone"])
            assert why["score"] == pytest.approx((1 - why["weight"]) * by_codes + why["weight"] * alone, abs=1e-6)
        assert answer.status_code == 200
        empty = await client.post("/v1/why", json={"history": [], "item_id": "item-5"})
        assert len(empty.json()["steps"]) == 3


@asynchronous
async def test_a_removed_item_is_nobodys_neighbour(folder):
    async with talking(folder) as client:
        near = (await client.get("/v1/items/item-0")).json()["neighbours"]
        await client.delete(f"/v1/items/{near[0]['item_id']}")
        after = (await client.get("/v1/items/item-0?neighbours=100")).json()["neighbours"]
        assert [one["item_id"] for one in after[:4]] == [one["item_id"] for one in near[1:]]
        assert len(after) == 22


@asynchronous
async def test_why_names_what_is_wrong(folder):
    async with talking(folder, max_history=3) as client:
        assert is_error(await client.post("/v1/why", json={"history": [], "item_id": "x"}), 404, "unknown_item", "'x'")
        long = {"history": ["item-0"] * 4, "item_id": "item-1"}
        assert is_error(await client.post("/v1/why", json=long), 422, "invalid_request", "history", "3")
        wrong = {"history": [], "item_id": "item-1", "more": 1}
        assert is_error(await client.post("/v1/why", json=wrong), 422, "invalid_request", "more")
        assert (await client.delete("/v1/items/item-1")).status_code == 200
        gone = await client.post("/v1/why", json={"history": [], "item_id": "item-1"})
        assert is_error(gone, 404, "unknown_item", "removed")


@asynchronous
async def test_the_map_holds_what_is_in_lists_and_new_items_at_once(folder):
    async with talking(folder) as client:
        first = (await client.get("/v1/map", params={"attribute": "kind"})).json()
        assert first["items"] == 24
        assert [one["item_id"] for one in first["points"]] == [f"item-{i}" for i in range(24)]
        assert {one["value"] for one in first["points"]} == {"red shoes", "blue hats", "green coats"}
        assert all(len(one["codes"]) == 3 for one in first["points"])
        by_codes = {}
        for one in first["points"]:
            by_codes.setdefault(tuple(one["codes"]), set()).add((one["x"], one["y"]))
        assert len(by_codes) > 1
        assert all(len(places) == 1 for places in by_codes.values())
        assert len(set.union(*by_codes.values())) > 1
        await client.add()
        await client.delete("/v1/items/item-4")
        second = (await client.get("/v1/map")).json()
        ids = [one["item_id"] for one in second["points"]]
        assert second["items"] == 24
        assert NEW["item_id"] in ids
        assert "item-4" not in ids
        assert {one["value"] for one in second["points"]} == {""}
        kept = {one["item_id"]: (one["x"], one["y"]) for one in first["points"]}
        assert all((one["x"], one["y"]) == kept.get(one["item_id"], (one["x"], one["y"])) for one in second["points"])


@asynchronous
async def test_a_large_map_is_an_even_sample_and_holds_what_is_asked_for(folder):
    async with talking(folder) as client:
        await client.delete("/v1/items/item-9")
        asked = {"limit": 5, "also": ["item-7", "item-9", "nobody"]}
        found = (await client.get("/v1/map", params=asked)).json()
        ids = [one["item_id"] for one in found["points"]]
        assert found["items"] == 23
        assert {"item-0", "item-7", "item-23"} <= set(ids)
        assert len(ids) == 6
        assert "item-9" not in ids
        assert is_error(await client.get("/v1/map?attribute=colour"), 422, "invalid_request", "colour", "kind")
        assert is_error(await client.get("/v1/map?limit=100000"), 422, "invalid_request", "limit")


@asynchronous
async def test_about_tells_catalogue_and_codes_as_they_are_now(folder):
    async with talking(folder, max_k=11) as client:
        about = (await client.get("/v1/about")).json()
        assert (about["items"], about["removed"], about["max_k"], about["title_attribute"]) == (24, 0, 11, "title")
        title, kind = about["attributes"]
        assert (title["name"], title["values"]) == ("title", [])
        assert (kind["name"], kind["values"]) == ("kind", ["blue hats", "green coats", "red shoes"])
        assert len(about["examples"]) == 6
        codes = about["codes"]
        assert (codes["items"], len(codes["positions"])) == (24, 3)
        for position in codes["positions"]:
            assert sum(position["counts"]) == 24
            assert position["counts"] == sorted(position["counts"], reverse=True)
            assert sum(count > 0 for count in position["counts"]) == position["used"]
        assert (about["fit"], about["evaluation"], about["has_scorer"]) == (None, None, False)
        await client.add()
        await client.delete("/v1/items/item-0")
        about = (await client.get("/v1/about")).json()
        assert (about["items"], about["removed"], about["codes"]["items"]) == (24, 1, 25)
        assert about["fit"]["items"] == 1
        assert "item-0" not in [one["item_id"] for one in about["examples"]]


@asynchronous
async def test_about_has_the_figures_of_an_evaluated_run_and_leaves_out_damaged_ones(trained, tmp_path):
    shutil.copytree(trained.parent, tmp_path / "run")
    measured = evaluate_run(RunFolder.open(tmp_path / "run", OPTIONS), plots=False, progress=Progress(enabled=False))
    async with talking(tmp_path / "run") as client:
        found = (await client.get("/v1/about")).json()["evaluation"]
        assert [one["system"] for one in found["systems"]] == list(measured.systems)
        for one in found["systems"]:
            result = measured.systems[one["system"]]
            assert one["metrics"] == {name: value.model_dump() for name, value in result.item_level.items()}
            assert one["coverage"] == result.coverage
            assert [part["users"] for part in one["slices"]] == [part.n for part in result.slices.values()]
        assert (found["users"], found["items"]) == (measured.users, 24)
        for damaged in ("{", "[]", '{"systems": {"store": 1}}'):
            (tmp_path / "run" / "evaluation.json").write_text(damaged)
            assert (await client.get("/v1/about")).json()["evaluation"] is None
