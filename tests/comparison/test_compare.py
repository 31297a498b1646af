"""The whole retrieval table and all ablations, end to end from raw files."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from storerec.codes import CodeTable, CodeTree
from storerec.comparison import Grid, compare, load_data, resolve
from storerec.comparison.grid import best_trials, cells, run_tasks
from storerec.comparison.trial import Trial
from storerec.comparison.work import Work
from storerec.data.splits import split
from storerec.systems.registry import RECIPES
from tests.comparison import raw

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::storerec.errors.StorerecWarning"),
]
EVERYTHING = resolve(["retrieval", "ablations"])


def run(data, config, folder, *, seeds=(1,), recipes=EVERYTHING):
    said = []
    result = compare(data, config, Grid(recipes, seeds, jobs=0), folder, raw.OPTIONS, said.append)
    return result.ranking, said


@pytest.fixture(scope="module")
def mind(raw_mind, tiny_backbone, encoder, tmp_path_factory):
    data, config = load_data(f"mind:{raw_mind}"), raw.config("mind", tiny_backbone("llama"), encoder)
    folder = tmp_path_factory.mktemp("compared") / "out"
    return data, config, folder, *run(data, config, folder)


@pytest.fixture(scope="module")
def yelp(raw_yelp, tiny_backbone, encoder, tmp_path_factory):
    # OPT as in the paper, whose word embeddings are narrower than its layers
    data, config = load_data(f"yelp:{raw_yelp}"), raw.config("yelp", tiny_backbone("opt"), encoder)
    folder = tmp_path_factory.mktemp("compared") / "out"
    return data, config, folder, *run(data, config, folder)


def facts(folder, name, seed=1):
    return json.loads((folder / "cells" / f"{name}-seed{seed}-rate1-lists.json").read_text())


def lists(folder, name, seed=1):
    return load_file(folder / "stages" / facts(folder, name, seed)["lists"] / "lists.safetensors")["items"]


@pytest.mark.parametrize("dataset", ["mind", "yelp"])
def test_every_row_is_in_every_report(dataset, request):
    data, _, folder, result, said = request.getfixturevalue(dataset)
    names = [recipe.name for recipe in EVERYTHING]
    assert names == list(RECIPES)
    assert result.failures == {}
    assert not [line for line in said if "FAILED" in line]
    written = json.loads((folder / "report" / "comparison.json").read_text())
    assert list(written["systems"]) == names
    assert written["failures"] == {}
    for file in ("report.md", "table.tex", "report.html"):
        text = (folder / "report" / file).read_text(encoding="utf-8")
        assert not [name for name in names if name not in text], file
        assert "DIFFER: this is not" in text or file == "table.tex"
    assert {"table.tex", "per_user.json"} <= {path.name for path in (folder / "report").iterdir()}
    for name, system in result.systems.items():
        assert 0 <= system.item_level["ndcg@20"].value <= system.item_level["recall@20"].value <= 1, name
        assert (system.tuple_level is not None) == (RECIPES[name].coder != "unique"), name
        assert lists(folder, name).shape == (len(split(data.histories, result_split(dataset), 0).test), 20)


def result_split(dataset):
    return raw.config(dataset, "unused", "unused").store.split


@pytest.mark.parametrize("dataset", ["mind", "yelp"])
def test_code_tables_cover_the_catalogue(dataset, request):
    data, _, folder, _, _ = request.getfixturevalue(dataset)
    coded = [recipe.name for recipe in EVERYTHING if recipe.coder != "unique"]
    for name in coded:
        stage = folder / "stages" / facts(folder, name)["codes"]
        table = CodeTable.from_arrays(load_file(stage / "table.safetensors"))
        assert sorted(table.bucket_items.tolist()) == list(range(len(data.catalogue))), name
        below = CodeTree.from_table(table).leaves_below[0]
        assert below.tolist() == [len(data.catalogue)], name
        assert facts(folder, name)["code_report"], name
    unique = load_file(folder / "stages" / facts(folder, "store-reassign")["codes"] / "table.safetensors")
    assert len(np.unique(unique["codes"], axis=0)) == len(data.catalogue)


def test_ablations_share_what_they_do_not_change(mind):
    _, _, folder, _, _ = mind
    assert len(list((folder / "stages").glob("tokenizer-*"))) == 1
    store = facts(folder, "store")["codes"]
    for name in ("soft", "no-alignment", "random-init", "fresh", "position", "vocabulary"):
        assert facts(folder, f"store-{name}")["codes"] == store
    assert facts(folder, "tiger")["codes"] == facts(folder, "tiger-llm")["codes"]
    others = [facts(folder, name)["codes"] for name in ("tiger", "lc-rec", "store-no-tokenizer", "store-extra")]
    assert len({store, *others}) == 5
    # "soft" is a matter of search: the weights are those trained over the position's codes
    models = {p.name: json.loads((p / "identity.json").read_text()) for p in (folder / "stages").glob("lists-*")}
    hard, soft = (models[facts(folder, name)["lists"]] for name in ("store-position", "store-soft"))
    assert hard["model"] == soft["model"]
    trained = {made["model"] for made in models.values() if "model" in made}
    assert len(trained) == len([recipe for recipe in EVERYTHING if recipe.trained]) - 1


def test_a_second_call_reuses_everything(mind):
    data, config, folder, result, _ = mind
    before = {path: path.stat().st_mtime_ns for path in (folder / "stages").rglob("*") if path.is_file()}
    again, said = run(data, config, folder)
    after = {path: path.stat().st_mtime_ns for path in (folder / "stages").rglob("*") if path.is_file()}
    assert after == before
    assert f"  {len(EVERYTHING)}/{len(EVERYTHING)} stand from an earlier call" in said
    assert again.to_json() == result.to_json()


def test_decoding_never_reads_the_targets(mind, tmp_path):
    """Test users are of no other part, so data that differ in their last items only give the same lists."""
    data, config, folder, result, _ = mind
    divided = split(data.histories, config.store.split, config.split_seed)
    turned = raw.swapped(data, divided.test.histories.user_ids)
    other = split(turned.histories, config.store.split, config.split_seed)
    assert (other.test.targets != divided.test.targets).all()
    ranking, _ = run(turned, config, tmp_path / "out")
    assert ranking.failures == {}
    for recipe in EVERYTHING:
        np.testing.assert_array_equal(lists(folder, recipe.name), lists(tmp_path / "out", recipe.name))
    assert any(
        ranking.systems[name].item_level["recall@20"] != result.systems[name].item_level["recall@20"]
        for name in ranking.systems
    ), "the targets did change what is measured"


def test_seeds_and_trials(mind, tmp_path, tiny_backbone, encoder):
    """Two seeds and two learning rates: a trial each on the first seed, untrained systems once, ablations none."""
    data = mind[0]
    config = raw.config("mind", tiny_backbone("llama"), encoder, tuning={"rates": [1.0, 3.0]})
    recipes = resolve(["markov", "sasrec", "store", "store-soft"])
    ranking, _ = run(data, config, tmp_path / "out", seeds=(4, 2), recipes=recipes)
    assert ranking.systems["markov"].seeds == (4,)
    assert ranking.systems["sasrec"].seeds == ranking.systems["store-soft"].seeds == (4, 2)
    tuning = ranking.settings["tuning"]
    assert sorted(tuning["trials"]) == [f"{s}-seed4-rate{r}-trial" for s in ("sasrec", "store") for r in (1, 3)]
    for name, trials in (("sasrec", tuning["trials"]), ("store", tuning["trials"])):
        best = max((1.0, 3.0), key=lambda rate: trials[f"{name}-seed4-rate{rate:g}-trial"]["ndcg@10"])
        assert tuning["chosen"][name] == {"rate": best, "dropout": 1.0}
    assert tuning["chosen"]["store-soft"] == tuning["chosen"]["store"]


def test_other_settings_reuse_the_stages_they_do_not_touch(mind):
    data, config, folder, _, _ = mind
    search = config.store.search.model_copy(update={"beam": 3})
    other = config.model_copy(update={"store": config.store.model_copy(update={"search": search})})
    before = set((folder / "stages").glob("*/done.json"))
    recipes = resolve(["popularity", "sasrec", "store-soft"])
    work = Work.create(folder, data.catalogue, data.histories, other, raw.OPTIONS, None)
    outcomes = run_tasks(work, cells(recipes, (1,), best_trials(recipes, (Trial(),), {})), 0, lambda line: None)
    assert all(outcome.error is None for outcome in outcomes.values())
    new = [path.parent.name.partition("-")[0] for path in set((folder / "stages").glob("*/done.json")) - before]
    assert new.count("model") == 1  # STORE's alone: the search validates its weights
    assert set(new) == {"lists", "model"}
