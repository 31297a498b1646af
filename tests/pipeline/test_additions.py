"""Items added to a trained STORE."""

import numpy as np
import polars as pl
import pytest

from storerec.codes import CodeTable
from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.errors import ConfigError, DataError, ItemError
from storerec.llm.progress import Progress
from storerec.pipeline import STORE, RunFolder, fit
from storerec.pipeline.requests import RecommendRequest, recommend_all
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


def test_items_without_text_or_attributes_are_refused_and_nothing_changes(store):
    before = store.recommend(["item-0"], 24)
    kept = pl.when(pl.col("item_id") != "new-1")
    blank = NEW.with_columns(kept.then(name).otherwise(pl.lit(" ")).alias(name) for name in ("title", "kind"))
    with pytest.raises(DataError, match="'new-1': no text in title, kind"):
        store.add_items(Catalogue.from_frame(blank))
    with pytest.raises(ConfigError, match="lack the attribute 'kind'"):
        store.add_items(Catalogue.from_frame(NEW.drop("kind")))
    assert len(store.catalogue) == len(store.table) == 24
    assert store.recommend(["item-0"], 24) == before


def test_items_for_which_reassign_has_no_codes_left_are_named(path):
    run = RunFolder.open(path, OPTIONS)
    store, dense = STORE.of_run(run), run.dense.whole()
    first, distances = store.clusterer.assign(dense), store.clusterer.distances(dense)
    store.table = CodeTable.build(first, store.clusterer.sizes, policy="reassign", distances=distances)  # 4 x 4 x 4
    with pytest.raises(
        ItemError, match=r"item 'item-64' \(and 2 others\): policy 'reassign' has no codes left"
    ) as told:
        store.add_items(Catalogue.from_frame(worlds.items(67)[24:]))
    assert told.value.item_ids == ("item-64", "item-65", "item-66")


def test_a_known_id_keeps_its_codes_and_takes_the_new_text(store):
    known = worlds.items()[2:5].select("item_id", "title", "kind")
    changed = pl.when(pl.col("item_id") == "item-3").then(pl.lit("a new name")).otherwise("title")
    given = pl.concat([known.with_columns(title=changed), NEW[:1].select("item_id", "title", "kind")])
    before, titles = store.table.codes, store.catalogue.titles.to_list()
    found = store.add_items(Catalogue.from_frame(given))
    assert found["status"].to_list() == ["unchanged", "updated", "unchanged", "added"]
    assert found["codes"].to_list()[:3] == before[2:5].tolist()
    assert np.array_equal(store.table.codes[:24], before)
    titles[3] = "a new name"
    assert store.catalogue.titles.to_list() == [*titles, "red shoes number 99"]
    assert store.catalogue.rows(["item-3", "new-0"]).tolist() == [3, 24]
    assert "a new name" in {one.title for one in store.recommend(["item-0"], 25)}


def test_what_is_removed_is_in_no_list_and_still_read_in_histories(store, tmp_path):
    store.add_items(Catalogue.from_frame(NEW))
    whole = store.recommend(["item-0", "item-3"], 27, new_share=0)
    gone = {whole[0].item_id, whole[4].item_id, "new-1"}
    store.remove_items(sorted(gone))
    store.save(tmp_path / "bundle")
    for one in (store, STORE.load(tmp_path / "bundle", options=OPTIONS)):
        left = one.recommend(["item-0", "item-3"], 27, new_share=0)
        assert [item.item_id for item in left] == [item.item_id for item in whole if item.item_id not in gone]
        np.testing.assert_allclose(
            [item.score for item in left], [item.score for item in whole if item.item_id not in gone], atol=1e-5
        )
        assert one.recommend(sorted(gone), 3) != one.recommend(["item-9"], 3)  # the removed ones are read
        with pytest.raises(DataError, match="'new-1' was removed"):
            one.score(["item-0"], ["item-1", "new-1"])
        with pytest.raises(DataError, match="no item 'nobody'"):
            one.remove_items(["item-1", "nobody"])
        assert not one.removed[1]
    status = store.add_items(Catalogue.from_frame(NEW[1:2]))["status"].to_list()
    assert status == ["restored"]
    assert "new-1" in {item.item_id for item in store.recommend(["item-0"], 27)}


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


def best_of(store: STORE, history: list[str]) -> dict[str, float]:
    return {item.item_id: item.score for item in store.recommend(history, 26, new_share=0)}


def test_lists_keep_places_for_added_items(store, tmp_path):
    assert not store.new.any()
    plain = [one.item_id for one in store.recommend(["item-0", "item-3"], 10)]
    assert plain == [one.item_id for one in store.recommend(["item-0", "item-3"], 10, new_share=1.0)]
    store.add_items(Catalogue.from_frame(NEW))
    store.remove_items(["new-2"])
    store.save(tmp_path / "bundle")
    for one in (store, STORE.load(tmp_path / "bundle", options=OPTIONS)):
        assert one.catalogue.ids.filter(pl.Series(one.new)).to_list() == NEW["item_id"].to_list()
        for share, least in ((None, 1), (0.1, 1), (0.3, 2), (1.0, 2)):  # three were added, of which two are left
            found = [item.item_id for item in one.recommend(["item-0", "item-3"], 10, new_share=share)]
            assert len(set(found)) == 10
            assert len({"new-0", "new-1"} & set(found)) >= least
            assert "new-2" not in found
        best = best_of(one, ["item-0", "item-3"])
        for item in one.recommend(["item-0", "item-3"], 10, new_share=1.0):
            assert item.score == pytest.approx(best[item.item_id], abs=1e-5)
        request = RecommendRequest(("item-0", "item-3"), 10, new_share=1.0)
        answer = recommend_all(one, [request, RecommendRequest(("item-0",), 3, new_share=0.0)])
        assert {item.item_id for item in answer[0].items[:2]} == {"new-0", "new-1"}
        assert [item.item_id for item in answer[1].items] == list(best_of(one, ["item-0"]))[:3]
        none = RecommendRequest(("item-0",), 3, where={"kind": ("blue hats",)}, new_share=1.0)
        assert "new" not in str([item.item_id for item in recommend_all(one, [none])[0].items])
        assert one.recommend(["item-0"], 3, exclude=["new-0", "new-1"], new_share=1.0)
    with pytest.raises(DataError, match="within 0 and 1"):
        store.recommend(["item-0"], 10, new_share=1.5)
    wrong = recommend_all(store, [RecommendRequest(("item-0",), 3, new_share=-0.1)])[0]
    assert isinstance(wrong, DataError)
