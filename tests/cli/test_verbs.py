"""Every verb on a small shop with a tiny model."""

import json
import shutil

import pytest

from storerec.bundle import FileEntry
from storerec.evaluation import Evaluation
from storerec.pipeline import RunFolder
from tests.cli.conftest import GENRES, call, is_error, is_fine
from tests.data.test_preprocess import write_mind


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_fit_reports_and_the_same_command_reuses_everything(fitted):
    bundle = fitted.run / "bundle"
    before = {path: path.stat().st_mtime_ns for path in bundle.iterdir()}
    result = fitted.fit()
    assert is_fine(result)
    assert "Perplexity" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in bundle.iterdir()} == before


def test_stages_one_by_one_give_what_fit_gives(shop, fitted):
    assert is_fine(shop.fit("--prepare"))
    assert is_error(call("cluster", shop.run), f"storerec tokenize {shop.run}")
    assert is_error(call("train", shop.run), f"storerec cluster {shop.run}")
    assert is_error(call("recommend", shop.run, "--history", "i1"), str(shop.run))
    assert is_error(call("evaluate", shop.run), str(shop.run))
    for name in ("tokenize", "tokenize", "cluster", "cluster", "train", "train"):
        assert is_fine(call(name, shop.run))
    ours, theirs = shop.folder / "a.json", shop.folder / "b.json"
    assert is_fine(call("recommend", shop.run, "--history", "i1,i2", "--json", ours))
    assert is_fine(call("recommend", fitted.run, "--history", "i1,i2", "--json", theirs))
    assert read(ours) == read(theirs)


def test_recommend_from_run_and_from_moved_bundle(fitted, tmp_path):
    shutil.copytree(fitted.run / "bundle", tmp_path / "elsewhere")
    for name, place in (("run", fitted.run), ("bundle", tmp_path / "elsewhere")):
        result = call("recommend", place, "--history", "i1, i2", "-k", 4, "--json", tmp_path / f"{name}.json")
        assert is_fine(result)
    found = read(tmp_path / "run.json")
    assert found == read(tmp_path / "bundle.json")
    assert found["history"] == ["i1", "i2"]
    rows = found["recommendations"]
    assert len(rows) == 4
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    for row in rows:
        assert row["title"] == f"Film number {row['item_id'][1:]}"
        assert row["title"] in result.stdout


def test_recommend_leaves_out_what_it_should(fitted, tmp_path):
    asked = ["--history", "i1,i2", "--exclude", "i3", "--exclude", "i4,i5", "--exclude-history", "-k", 12]
    assert is_fine(call("recommend", fitted.run, *asked, "--json", tmp_path / "r.json"))
    ids = {row["item_id"] for row in read(tmp_path / "r.json")["recommendations"]}
    assert ids == {f"i{i}" for i in range(12)} - {"i1", "i2", "i3", "i4", "i5"}


def test_recommend_with_unknown_ids(fitted):
    assert is_error(call("recommend", fitted.run, "--history", "x1,x2"), "x1", "x2")
    result = call("recommend", fitted.run, "--history", "i1,x2")
    assert is_fine(result)
    assert "warning: " in result.stderr
    assert "x2" in result.stderr
    assert "x2" not in result.stdout.splitlines()[0]


def test_recommend_on_what_is_no_run(tmp_path):
    assert is_error(call("recommend", tmp_path, "--history", "i1"), str(tmp_path))
    assert is_error(call("recommend", tmp_path / "none", "--history", "i1"), "none")
    assert call("recommend", tmp_path, "--history", "i1", "-k", 0).exit_code == 2


def test_recommend_from_a_damaged_bundle(fitted, tmp_path):
    shutil.copytree(fitted.run / "bundle", tmp_path / "b")
    victim = max((tmp_path / "b").glob("*.safetensors"), key=lambda path: path.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-1])
    assert is_error(call("recommend", tmp_path / "b", "--history", "i1"), victim.name, "truncated")


def test_evaluate(fitted, tmp_path):
    shutil.copytree(fitted.run, tmp_path / "run")
    result = call("evaluate", tmp_path / "run", "--json", tmp_path / "e.json")
    assert is_fine(result)
    values = read(tmp_path / "e.json")
    assert values == read(tmp_path / "run" / "evaluation.json")
    assert values["systems"].keys() == {"store", "popularity", "markov"}
    assert Evaluation.from_json(values).users == 6
    assert f"{values['systems']['store']['item']['recall@10']['value']:.4f}" in result.stdout
    assert list((tmp_path / "run").rglob("*.png"))


def test_evaluate_the_other_split_without_plots_and_history(fitted, tmp_path):
    shutil.copytree(fitted.run, tmp_path / "run", ignore=shutil.ignore_patterns("*.png"))
    flags = ["--split", "validation", "--exclude-history", "--no-plots"]
    assert is_fine(call("evaluate", tmp_path / "run", *flags, "--json", tmp_path / "e.json"))
    values = read(tmp_path / "e.json")
    assert values["exclude_history"] is True
    assert not list((tmp_path / "run").rglob("*.png"))


def test_evaluate_and_stages_need_a_run(tmp_path):
    for name in ("evaluate", "tokenize", "cluster", "train"):
        assert is_error(call(name, tmp_path), str(tmp_path))


def test_json_that_cannot_be_written(fitted):
    result = call("recommend", fitted.run, "--history", "i1", "--json", fitted.items / "x.json")
    assert is_error(result, "--json", "x.json")


def test_inspect(fitted, tmp_path):
    result = call("inspect", fitted.run, "--json", tmp_path / "i.json")
    assert is_fine(result)
    assert "Perplexity" in result.stdout
    report = read(tmp_path / "i.json")["codes"]
    assert report["items"] == 12
    assert len(report["positions"]) == 2


@pytest.mark.parametrize("where", ["run", "run/bundle"])
def test_inspect_an_item(fitted, tmp_path, where):
    result = call("inspect", fitted.folder / where, "--item", "i7", "--json", tmp_path / "i.json")
    assert is_fine(result)
    for word in ("i7", "Film number 7", GENRES[7 % 3], "Items below", " 12 ", " in the tree"):
        assert word in result.stdout
    item = read(tmp_path / "i.json")["item"]
    assert item["item_id"] == "i7"
    assert len(item["codes"]) == 2
    for codes, titles in item["siblings"]:
        assert codes[0] == item["codes"][0]
        assert codes[1] != item["codes"][1]
        assert 1 <= len(titles) <= 3
        assert " ".join(map(str, codes)) in result.stdout


def test_inspect_needs_no_language_model(fitted, tmp_path):
    place = tmp_path / "bundle"
    shutil.copytree(fitted.run / "bundle", place)
    for name in ("config.json", "backbone.json"):
        (place / name).write_text((place / name).read_text().replace("llama", "gone"))
    manifest = read(place / "manifest.json")
    for name in ("config.json", "backbone.json"):
        manifest["files"][name] = FileEntry.of(place / name).model_dump()
    (place / "manifest.json").write_text(json.dumps(manifest))
    assert is_error(call("recommend", place, "--history", "i1"), "backbone")
    assert is_fine(call("inspect", place, "--item", "i7"))


def test_inspect_an_unknown_item(fitted):
    assert is_error(call("inspect", fitted.run, "--item", "x9"), "x9")


def test_a_paper_preset_prepares_its_dataset_as_the_paper_does(shop, tmp_path):
    (tmp_path / "mind").mkdir()
    write_mind(tmp_path / "mind")
    settings = {"split": {"test_users": 4}, "backbone": read(shop.config)["backbone"]}
    mine = shop.write("small.json", json.dumps(settings))
    data = ["--data", f"mind:{tmp_path / 'mind'}", "--config", mine, "--prepare"]
    result = call("fit", *data, "--preset", "paper-mind", "--out", shop.run)
    assert is_fine(result)
    for figure in ("25,634", "45,000", "11.78", "20.69", "average appearance"):
        assert figure in result.stdout
    run = RunFolder.open(shop.run)
    assert run.catalogue.attributes == ("title", "abstract", "category", "subcategory")
    assert run.histories.lengths.max() <= 20
    assert (run.histories.item_counts(len(run.catalogue)) > 0).all()
    assert f"{len(run.catalogue)} " in result.stdout
