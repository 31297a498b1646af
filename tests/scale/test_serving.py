"""The service in replicas on a cluster of two nodes."""

import random
import shutil
import signal
import socket
import threading
import time
from functools import partial

import numpy as np
import pytest

from storerec.bundle.journal import Journal
from storerec.pipeline import STORE, Live, RecommendRequest
from tests.cli.conftest import call, is_error
from tests.scale.cluster import kill, wait_for
from tests.scale.replicas import OPTIONS, Asking, fitted, processes, served
from tests.serving.program import Program


@pytest.fixture(scope="module")
def trained(tiny_backbone, tmp_path_factory):
    """Bundles of two trainings."""
    folder = tmp_path_factory.mktemp("trained")
    return [fitted(tiny_backbone("llama"), folder / str(seed), seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def bundle(trained, tmp_path_factory):
    """The one that is served; tests change it, and each leaves a service of two replicas."""
    return shutil.copytree(trained[0], tmp_path_factory.mktemp("served") / "bundle")


@pytest.fixture(scope="module")
def running(cluster, bundle):
    with served(cluster, bundle, "--deadline-seconds", 100, "--max-wait-ms", 0) as program:
        yield program


@pytest.fixture
def client(running):
    with Asking(running.url) as asking:
        asking.of_all("GET", "/readyz")
        yield asking


def test_replicas_answer_as_one_service_does(client, bundle):
    alone = Live.open(bundle, options=OPTIONS)
    for history in (["item-0", "item-3"], ["item-7"], []):
        (wanted,) = alone.recommend([RecommendRequest(tuple(history), k=8)])
        told = client.of_all("POST", "/v1/recommend", json={"history": history, "k": 8})
        for answer in told.values():
            assert [one["item_id"] for one in answer["items"]] == [one.item_id for one in wanted.items]
            scores = [one["score"] for one in answer["items"]]
            assert np.allclose(scores, [one.score for one in wanted.items], atol=1e-4)
    labels = [line for line in client.get("/metrics").text.splitlines() if line.startswith("storerec_ready")]
    assert labels == [f'storerec_ready{{replica="{name}"}} 1.0' for name in told if name in labels[0]]
    assert client.get("/v1/items/nobody").json()["error"]["type"] == "unknown_item"
    assert client.get("/nowhere").status_code == 404
    assert client.get("/v1/about", headers={"Host": "elsewhere.example"}).status_code == 421


def test_a_change_that_was_answered_is_in_the_next_answer_of_every_replica(client):
    for number in range(3):
        new = f"seen-{number}"
        assert new not in client.recommended(["item-0"])  # this answer is kept
        assert client.add(new, title=f"a purple umbrella {number}").json()["items"][0]["status"] == "added"
        for answer in client.of_all("POST", "/v1/recommend", json={"history": ["item-0"], "k": 100}).values():
            assert new in [one["item_id"] for one in answer["items"]]
        assert client.remove(new).json()["status"] == "removed"
        for answer in client.of_all("POST", "/v1/recommend", json={"history": ["item-0"], "k": 100}).values():
            assert new not in [one["item_id"] for one in answer["items"]]
        assert client.remove(new).json()["status"] == "absent"


def test_conflicting_changes_end_the_same_everywhere_and_none_is_taken_back(client, running, bundle):
    before = len(Journal.beside(bundle).since())

    def change(attribute):
        with Asking(running.url) as own:
            for number in range(6):
                assert own.add("item-1", **{attribute: f"{attribute} {number}"}).status_code == 200
                own.remove("item-2") if number % 2 else own.add("item-2", title=f"{attribute} {number}")

    threads = [threading.Thread(target=change, args=(name,)) for name in ("title", "kind")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    for told in client.of_all("GET", "/v1/items/item-1").values():
        assert told["text"] == {"title": "title 5", "kind": "kind 5"}  # each changed by another client
    last = [one.kind for one in Journal.beside(bundle).since(before) if one.item_id == "item-2"][-1]
    for answer in client.of_all("POST", "/v1/recommend", json={"history": ["item-5"], "k": 100}).values():
        assert ("item-2" in [one["item_id"] for one in answer["items"]]) == (last != "remove")


def test_killed_replicas_and_a_killed_ledger_lose_and_double_nothing(client, running, cluster, bundle):
    going, wrong = True, []
    there, gone = [set() for _ in range(3)], set()

    def load(number):
        with Asking(running.url) as own:
            turn = 0
            while going or turn < 9:  # at most 24 + 3 * 15 items: all fit into one list
                new, turn = f"load-{number}-{turn % 15}", turn + 1
                added = own.add(new, title=f"thing {new}")
                if added.status_code != 200:
                    wrong.append(added.text)
                there[number].add(new)
                if turn % 3 == 0:
                    if (removed := own.remove(new)).status_code != 200:
                        wrong.append(removed.text)
                    there[number].discard(new)
                    gone.add(new)
                listed = {one for one in own.recommended(["item-0"]) if one.startswith(f"load-{number}-")}
                if listed != there[number]:
                    wrong.append((listed, set(there[number])))

    threads = [threading.Thread(target=load, args=(number,), daemon=True) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        rng = random.Random(0)
        for name in ("ray::ServeReplica:storerec", "ray::Ledger", "ray::ServeReplica:storerec"):
            time.sleep(rng.uniform(0.2, 1.0))
            victim = rng.choice(wait_for(partial(processes, cluster, name)))
            kill(victim)
            wait_for(lambda victim=victim, name=name: victim not in processes(cluster, name))
        client.of_all("GET", "/readyz")  # two answer again
    finally:
        going = False
    for thread in threads:
        thread.join(240)
        assert not thread.is_alive()
    assert wrong == []
    assert gone
    for answer in client.of_all("POST", "/v1/recommend", json={"history": ["item-0"], "k": 100}).values():
        listed = sorted(one["item_id"] for one in answer["items"] if one["item_id"].startswith("load-"))
        assert listed == sorted(set.union(*there))
    added = [one.item_id for one in Journal.beside(bundle).since() if one.kind == "add"]
    assert sorted(item for item in added if item.startswith("load-")) == sorted(set.union(gone, *there))


def test_a_new_bundle_is_loaded_by_one_replica_after_the_other_and_no_request_is_dropped(
    client, running, bundle, trained
):
    client.add("kept-1", title="a yellow scarf")
    client.add("kept-2", title="a yellow glove")
    client.remove("kept-2")
    going, statuses, made = True, [], []

    def load():
        with Asking(running.url) as own:
            while going:
                statuses.append(own.post("/v1/recommend", json={"history": ["item-0"], "k": 5}).status_code)
                if len(made) == 20:  # all items fit into one list
                    continue
                item = {"item_id": f"while-{len(made)}", "text": {"title": f"thing {len(made)}"}}
                statuses.append(own.post("/v1/items", json={"items": [item]}).status_code)
                made.append(item["item_id"])

    loading = threading.Thread(target=load, daemon=True)
    loading.start()
    STORE.load(trained[1], options=OPTIONS).save(bundle)
    reloaded = {}

    def all_reloaded():
        for line in client.get("/metrics").text.splitlines():
            if line.startswith("storerec_reloads_total{"):
                reloaded[line.partition(" ")[0]] = float(line.rpartition(" ")[2])
        return len(reloaded) == 2

    try:
        wait_for(all_reloaded, seconds=240)
    finally:
        going = False
    loading.join(240)
    assert set(statuses) == {200}
    assert all('result="done"' in name for name in reloaded)
    fresh = Live.open(bundle, options=OPTIONS)
    for item in ("item-4", "kept-1", made[0], made[-1]):
        codes = list(fresh.explain(item).codes)
        assert [one["codes"] for one in client.of_all("GET", f"/v1/items/{item}").values()] == [codes, codes]
    for told in client.of_all("GET", "/v1/items/item-1").values():
        assert told["text"]["title"] == fresh.explain("item-1").text["title"]
    assert client.get("/v1/items/kept-2").status_code == 404
    changes = Journal.beside(bundle).since()
    added = [(one.item_id, one.training) for one in changes if one.kind == "add"]
    assert len(added) == len(set(added))  # each encoded once under each training
    trainings = {training for item, training in added if item == "kept-1"}
    assert len(trainings) == 2


def test_what_a_user_gets_wrong_is_one_line(cluster, running, bundle, tmp_path, monkeypatch):
    monkeypatch.delenv("STOREREC_API_KEY", raising=False)
    ray = ("--engine", "ray", "--address", cluster.address)
    assert is_error(call("serve", tmp_path / "none", *ray), "none", "no such folder")
    assert is_error(call("serve", bundle, "--host", "0.0.0.0", *ray), "--host 0.0.0.0", "--api-key-file")
    assert is_error(call("serve", bundle, "--workers", 3, "--max-replicas", 2, *ray), "--max-replicas 2", "--workers")
    assert is_error(call("serve", bundle, "--max-replicas", 2), "--max-replicas", "--engine ray")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert is_error(call("serve", bundle, "--engine", "ray", "--port", port), "cannot listen", str(port))
    assert is_error(call("serve", bundle, "--port", 0, *ray), "another `storerec serve` serves on this cluster")
    with Asking(running.url) as asking:
        assert len(asking.of_all("GET", "/readyz")) == 2


def test_what_keeps_replicas_from_loading_is_told_and_a_cluster_of_its_own_ends_with_it(bundle, tmp_path):
    broken = shutil.copytree(bundle, tmp_path / "bundle")
    (broken / "table.safetensors").write_bytes(b"broken")
    program = Program(broken, "--engine", "ray", "--workers", 1)
    assert program.process.wait(240) == 2
    program._reader.join(10)
    assert "table.safetensors: truncated" in program.lines[-1]
    assert program.lines[-1].startswith("error: ")
    assert not [line for line in program.lines if "Traceback" in line]


def test_a_stop_ends_what_was_started(cluster, bundle, running):
    with Asking(running.url) as asking:
        asking.of_all("GET", "/readyz")
    assert running.end(signal.SIGTERM) == 0, running.lines
    wait_for(lambda: not any(processes(cluster, name) for name in ("ray::Serve", "ray::Ledger", "ray::Proxy")))
    assert not [line for line in running.lines if "Traceback" in line or line.startswith("error")]
