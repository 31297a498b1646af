"""``storerec score`` and ``fit-scorer`` on a small shop."""

import json
import shutil

import numpy as np
import pytest

from storerec.config import RunOptions
from storerec.pipeline import STORE, RunFolder
from tests.cli.conftest import Shop, call, is_error, is_fine

SCORER = {"batch_size": 8, "lora": {"rank": 2}, "max_history": 6, "training": {"max_steps": 2}}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def judged_csv():
    """Six users, ten events each: items of one kind get 5 stars, others 1 or 3."""
    rows = [f"u{u},i{(5 * e + u) % 12},{100 * e},{(5, 1, 3, 1)[(5 * e + u) % 4]}" for e in range(10) for u in range(6)]
    return "user_id,item_id,timestamp,stars\n" + "\n".join(rows) + "\n"


@pytest.fixture(scope="module")
def scored(tmp_path_factory, tiny_backbone, fitted):
    """A copy of the fitted shop, with a trained scorer."""
    folder = tmp_path_factory.mktemp("scored")
    shop = Shop(folder, tiny_backbone("llama"))
    shutil.copytree(fitted.run, shop.run)
    shop.write("judged.csv", judged_csv())
    shop.write("scorer.json", json.dumps(SCORER))
    assert is_fine(fit_scorer(shop, "--json", folder / "record.json"))
    return shop


def fit_scorer(shop, *more):
    named = ["--events", shop.folder / "judged.csv", "--rating", "stars", "--config", shop.folder / "scorer.json"]
    return call("fit-scorer", shop.run, *named, "--test-users", 2, *more)


def test_without_a_scorer_candidates_are_scored_as_the_recommender_scores_its_lists(fitted, tmp_path):
    assert is_fine(call("recommend", fitted.run, "--history", "i1,i2", "-k", 12, "--json", tmp_path / "list.json"))
    listed = {row["item_id"]: row["score"] for row in read(tmp_path / "list.json")["recommendations"]}
    result = call("score", fitted.run, "--history", "i1,i2", "--candidates", "i5,i0", "--candidates", "i7", "--json",
                  tmp_path / "s.json")  # fmt: skip
    assert is_fine(result)
    assert "log-probability" in result.stdout
    found = read(tmp_path / "s.json")
    assert (found["history"], found["scored_by"]) == (["i1", "i2"], "log-probability")
    scores = {row["item_id"]: row["score"] for row in found["scores"]}
    assert scores.keys() == {"i5", "i0", "i7"}
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert scores == pytest.approx({item: listed[item] for item in scores}, abs=1e-4)


def test_with_a_scorer_they_are_scored_by_it_from_run_and_bundle(scored, tmp_path):
    record = read(scored.folder / "record.json")
    assert record == read(scored.run / "scorer.json")
    assert record["test"]["groups"] > 0
    assert set(record["test"]["auc"]) == {"store", "store-likelihood", "click-rate", "popularity"}
    shutil.copytree(scored.run / "bundle", tmp_path / "elsewhere")
    for name, place in (("run", scored.run), ("bundle", tmp_path / "elsewhere")):
        asked = ["--history", "i1,i2", "--candidates", "i3,i4,i5"]
        result = call("score", place, *asked, "--json", tmp_path / f"{name}.json")
        assert is_fine(result)
        assert "probability of yes" in result.stdout
    found = read(tmp_path / "run.json")
    assert found == read(tmp_path / "bundle.json")
    assert {row["item_id"] for row in found["scores"]} == {"i3", "i4", "i5"}
    scores = [row["score"] for row in found["scores"]]
    assert all(0 < score < 1 for score in scores)
    assert scores == sorted(scores, reverse=True)
    # and the stages say the same as the bundle
    store = STORE.of_run(RunFolder.open(scored.run, RunOptions(device="cpu")))
    again = {s.item_id: s.score for s in store.score(["i1", "i2"], ["i3", "i4", "i5"])}
    assert again == pytest.approx({row["item_id"]: row["score"] for row in found["scores"]}, abs=1e-6)
    assert np.ptp(scores) > 0


def test_recommendations_stay_what_they_were(scored, fitted, tmp_path):
    for name, run in (("a", fitted.run), ("b", scored.run)):
        assert is_fine(call("recommend", run, "--history", "i1,i2", "--json", tmp_path / f"{name}.json"))
    assert read(tmp_path / "a.json") == read(tmp_path / "b.json")


def test_the_same_command_returns_at_once_and_another_says_so(scored):
    file = scored.run / "stages" / "scorer.safetensors"
    before = file.stat().st_mtime_ns
    assert is_fine(fit_scorer(scored))
    assert file.stat().st_mtime_ns == before
    assert is_fine(scored.fit())  # the run's own stages are not touched
    other = scored.write("other.json", json.dumps(SCORER | {"batch_size": 4}))
    assert is_error(fit_scorer(scored, "--config", other), "scorer.json", "delete")


def test_misuse_is_named(shop, fitted, scored):
    asked = ["--history", "i1"]
    assert is_error(call("score", fitted.run, *asked, "--candidates", "nope"), "'nope'")
    assert is_error(call("score", fitted.run, *asked, "--candidates", ","), "candidates")
    assert is_error(call("score", fitted.run, "--history", "x", "--candidates", "i1"), "history")
    assert is_error(call("score", shop.run, *asked, "--candidates", "i1"), "run")
    judged = shop.write("judged.csv", judged_csv())
    assert is_error(call("fit-scorer", fitted.run), "--events", "--data")
    assert is_error(call("fit-scorer", fitted.run, "--events", judged), "--rating", "--label")
    assert is_error(call("fit-scorer", fitted.run, "--data", "amazon:x"), "amazon")
    named = ["--events", judged, "--rating", "stars"]
    assert is_error(call("fit-scorer", fitted.run, *named, "--test-users", 9), "9 test users")
    assert is_error(call("fit-scorer", fitted.run, *named, "--test-users", 0), "--test-users")
    assert is_error(call("fit-scorer", fitted.run, *named, "--rating", "zeit"), "zeit")
    assert is_fine(shop.fit("--prepare"))
    assert is_error(call("fit-scorer", shop.run, *named, "--test-users", 2), "not finished")
