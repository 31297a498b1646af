"""The commands with --engine ray: what they write, and what they say of mistakes."""

import json

import pytest
from safetensors.numpy import load_file

from tests.cli.conftest import Shop, call, is_error, is_fine


def arrays(run, *names):
    files = [file for name in names for file in sorted((run / "stages").rglob(f"{name}*.safetensors"))]
    assert files
    return {str(file.relative_to(run)): {k: v.tobytes() for k, v in load_file(file).items()} for file in files}


@pytest.fixture(scope="module")
def shops(tiny_backbone, tmp_path_factory):
    return [Shop(tmp_path_factory.mktemp(name), tiny_backbone("llama")) for name in ("local", "ray")]


def test_fit_and_evaluate_give_what_they_give_here(cluster, shops, tmp_path):
    here, there = shops
    settings = tmp_path / "engine.json"
    settings.write_text(json.dumps({"train_workers": 1}))
    ray = ("--engine", "ray", "--address", cluster.address, "--workers", 2, "--engine-config", settings)
    assert is_fine(here.fit("--device", "cpu"))
    assert is_fine(there.fit("--device", "cpu", *ray))
    assert (here.run / "run.json").read_text() == (there.run / "run.json").read_text()
    results = ("tokenizer", "[0-9]", "clusterer", "table", "means", "recommender")
    assert arrays(here.run, *results) == arrays(there.run, *results)
    assert is_fine(call("evaluate", here.run, "--no-plots"))
    assert is_fine(call("evaluate", there.run, "--no-plots", *ray))
    ours, theirs = (json.loads((shop.run / "evaluation.json").read_text()) for shop in shops)
    for result in (ours, theirs):
        for system in result["systems"].values():
            del system["seconds"]
    assert ours == theirs
    assert is_fine(call("recommend", there.run, "--history", "i1,i2"))


def test_mistakes_are_told_in_one_line(cluster, shops, tmp_path, monkeypatch):
    shop = shops[0]
    ray = ("--engine", "ray", "--address", cluster.address)
    assert is_error(shop.fit("--workers", 2, out=tmp_path / "r"), "--workers", "--engine ray")
    assert is_error(call("train", tmp_path / "none", *ray), "is no run folder")
    assert is_error(shop.fit("--engine", "ray", "--address", "127.0.0.1:1", out=tmp_path / "r"), "127.0.0.1:1")
    assert is_error(shop.fit("--engine", "ray", "--address", "nonsense", out=tmp_path / "r"), "nonsense", "HOST:PORT")
    bad = shop.write("engine.json", '{"worker": 3}')
    assert is_error(shop.fit(*ray, "--engine-config", bad, out=tmp_path / "r"), "engine.json", "worker")
    events = shop.write("bad.csv", "user_id,item_id,timestamp\nu1,i1,1\nu1,i2,2\nu2,,3\nu2,i1,4\n")
    assert is_error(shop.fit(*ray, events=events, out=tmp_path / "r"), "bad.csv, line 4", "item_id", "empty")
    with monkeypatch.context() as environment:
        environment.setenv("WORLD_SIZE", "2")
        assert is_error(shop.fit(*ray, out=tmp_path / "r"), "--engine ray", "without torchrun")
    assert not (tmp_path / "r").exists()
