"""Why an item is recommended."""

import math

import numpy as np
import pytest

from storerec.config import RunOptions
from storerec.llm.progress import Progress
from storerec.pipeline import STORE, RunFolder, fit
from storerec.pipeline.why import items_below, why
from tests import worlds

OPTIONS = RunOptions(device="cpu", dtype="float32", progress=False)


@pytest.fixture(scope="module", params=["codes", "items", "positions"])
def store(request, tiny_backbone, tmp_path_factory):
    catalogue, histories = worlds.data()
    items = {"item_rows": True, "history": "items"} if request.param == "items" else {}
    config = worlds.config(tiny_backbone("llama"), normaliser="children", **items)
    weighed = config.search.model_copy(update={"item_weight": 0.75})  # another than the default
    if request.param == "positions":
        weighed = weighed.model_copy(update={"normaliser": "position"})
    config = config.model_copy(update={"search": weighed})
    run = RunFolder.create(tmp_path_factory.mktemp("run") / "r", catalogue, histories, config, OPTIONS)
    fit(run, Progress(enabled=False))
    return STORE.of_run(run)


def test_the_path_gives_the_score_of_the_list(store):
    history = ["item-0", "item-3", "item-6"]
    rows = store.catalogue.rows(history)
    for one in store.recommend(history, 24):
        row = int(store.catalogue.rows([one.item_id])[0])
        found = why(store, rows, row)
        assert (found.item_id, found.title) == (one.item_id, one.title)
        assert tuple(step.chosen.code for step in found.steps) == one.codes
        score = sum(math.log(step.chosen.probability) for step in found.steps) + math.log(found.share)
        if found.alone is not None:
            weight = store.config.search.item_weight
            score = (1 - weight) * score + weight * math.log(found.alone)
        assert one.score == pytest.approx(score, abs=1e-3)


def test_scores_of_candidates_are_those_of_the_list(store):
    listed = {one.item_id: one.score for one in store.recommend(["item-0", "item-3"], 24)}
    for one in store.score(["item-0", "item-3"], list(listed)):
        assert one.score == pytest.approx(listed[one.item_id], abs=1e-3)


def test_branches_are_all_there_with_what_lies_under_them(store):
    found = why(store, store.catalogue.rows(["item-1"]), 5, others=100)
    codes = store.table.codes
    under = np.ones(len(codes), bool)
    for position, step in enumerate(found.steps):
        branches = [step.chosen, *step.others]
        whole = sum(one.probability for one in branches)
        assert whole <= 1 + 1e-5
        if store.system.normaliser == "children":
            assert whole == pytest.approx(1, abs=1e-5)
        assert [one.probability for one in step.others] == sorted(
            (one.probability for one in step.others), reverse=True
        )
        for one in branches:
            rows = np.flatnonzero(under & (codes[:, position] == one.code))
            assert one.items == len(rows)
            assert set(one.titles) <= {store.catalogue.titles[int(row)] for row in rows}
        under &= codes[:, position] == step.chosen.code
    assert len(why(store, np.empty(0, np.int64), 5, others=1).steps[0].others) == 1


def test_removed_items_give_no_branch_its_meaning(store):
    store.remove_items(["item-5"])
    try:
        assert 5 not in items_below(store, 0, 0)
        assert len(items_below(store, 0, 0)) == 23
    finally:
        store.removed[5] = False
