"""Items added to a trained STORE."""

import numpy as np
import polars as pl
import pytest

from storerec.codes import CodeTable
from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.errors import ConfigError, DataError
from storerec.llm.progress import Progress
from storerec.pipeline import STORE, RunFolder, fit
from storerec.recommender.scoring import CodeScorer, ScorerConfig
from tests import worlds

OPTIONS = RunOptions(device="cpu", dtype="float32", progress=False)
NEW = pl.DataFrame(
    {
        "item_id": ["new-0", "new-1", "new-2"],
        "title": ["red shoes number 99", "a purple umbrella", "green coats number 5"],
        "kind": ["red shoes", "umbrellas", "green coats"],
        "price": ["9", "9", "9"],
    }
)


@pytest.fixture(scope="module", params=["codes", "items"])
def path(request, tiny_backbone, tmp_path_factory):
    catalogue, histories = worlds.data()
    items = {"item_rows": True, "history": "items"} if request.param == "items" else {}
    config = worlds.config(tiny_backbone("llama"), **items)
    run = RunFolder.create(tmp_path_factory.mktemp("run") / "r", catalogue, histories, config, OPTIONS)
    fit(run, Progress(enabled=False))
    return run.path


@pytest.fixture
def store(path):
    return STORE.of_run(RunFolder.open(path, OPTIONS))


def lists(store: STORE) -> list[list[tuple[str, float]]]:
    histories = [["item-0", "item-3"], ["item-4", "new-1"], []]
    return [[(one.item_id, one.score) for one in store.recommend(history, 27)] for history in histories]


def test_added_items_are_recommended_as_after_a_load(store, tmp_path):
    before, tokenized = store.table, store.tokenize(Catalogue.from_frame(NEW))
    store.score(["item-0"], ["item-1"])
    for part in (NEW[:1], NEW[1:]):
        store.add_items(Catalogue.from_frame(part))
    assert np.array_equal(store.table.codes[:24], before.codes)
    assert store.table.codes[24:].tolist() == tokenized["codes"].to_list()
    assert store.catalogue.ids[24:].to_list() == NEW["item_id"].to_list()
    found = lists(store)
    assert all({item for item, _ in one} == set(store.catalogue.ids) for one in found)
    store.save(tmp_path / "bundle")
    loaded = STORE.load(tmp_path / "bundle", options=OPTIONS)
    for ours, theirs in zip(found, lists(loaded), strict=True):
        assert [item for item, _ in ours] == [item for item, _ in theirs]
        np.testing.assert_allclose([score for _, score in ours], [score for _, score in theirs], atol=1e-5)
    own, again = (one.score(["item-0", "new-2"], ["new-0", "item-1", "new-1"]) for one in (store, loaded))
    assert [one.item_id for one in own] == [one.item_id for one in again]
    np.testing.assert_allclose([one.score for one in own], [one.score for one in again], atol=1e-5)
    assert store.explain("new-2").text["title"] == "green coats number 5"
    extra = NEW[:1].with_columns(item_id=pl.lit("new-3"))
    loaded.add_items(Catalogue.from_frame(extra))  # a loaded one grows and is saved like any other
    loaded.save(tmp_path / "again")
    assert STORE.load(tmp_path / "again", options=OPTIONS).table.codes.tolist() == loaded.table.codes.tolist()
    assert loaded.table.codes[-1].tolist() == store.table.codes[24].tolist()


def test_a_scorer_scores_added_items(store):
    scorer = CodeScorer(store.recommender, ScorerConfig(tuning="head"))
    store = STORE(
        store.catalogue, store.config, store.tokenizer, store.clusterer, store.table, store.recommender, OPTIONS,
        scorer=scorer,
    )  # fmt: skip
    before = store.score(["item-0"], ["item-1"])
    store.add_items(Catalogue.from_frame(NEW))
    assert store.score(["item-0"], ["item-1"]) == before
    assert len(store.score(["new-1", "item-0"], ["new-0", "item-1", "new-2"])) == 3


def test_an_item_of_the_catalogue_or_without_attributes_is_refused_and_nothing_changes(store):
    before = lists(store) if "new-1" in store.catalogue.ids else store.recommend(["item-0"], 24)
    again = pl.concat([NEW, worlds.items().with_columns(price=pl.lit(""))[3:4].select(NEW.columns)])
    with pytest.raises(DataError, match="'item-3' is in the catalogue already"):
        store.add_items(Catalogue.from_frame(again))
    with pytest.raises(ConfigError, match="lack the attribute 'kind'"):
        store.add_items(Catalogue.from_frame(NEW.drop("kind")))
    assert len(store.catalogue) == len(store.table) == 24
    assert store.recommend(["item-0"], 24) == before


def test_a_number_that_has_no_vectors_is_refused(store):
    table = CodeTable.build(np.zeros((24, 3), np.int32), store.clusterer.sizes, policy="extra")
    store.table = table  # 24 numbers, all taken in one place
    twins = Catalogue.from_frame(NEW.with_columns(title=pl.lit("x"), kind=pl.lit("y")))
    codes = np.array(store.tokenize(twins)["codes"].to_list())
    if (codes[:, -1] < table.sizes[-1]).all():  # their cluster is another: let them fill it
        store.table = CodeTable.build(np.repeat(codes[:1, :-1], 24, 0), store.clusterer.sizes, policy="extra")
    with pytest.raises(DataError, match="no number left"):
        store.add_items(twins)
    assert len(store.catalogue) == 24
