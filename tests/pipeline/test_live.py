"""A STORE that changes while it is used."""

import shutil

import numpy as np
import polars as pl
import pytest

from storerec.bundle.journal import Journal
from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.errors import BundleError, DataError, StorerecWarning
from storerec.llm.progress import Progress
from storerec.pipeline import STORE, Live, RecommendRequest, RunFolder, ScoreRequest, fit, load_inspection
from storerec.pipeline.requests import FALLBACK
from tests import worlds
from tests.pipeline.test_additions import NEW

OPTIONS = RunOptions(device="cpu", dtype="float32", progress=False)


@pytest.fixture(scope="module")
def trained(tiny_backbone, tmp_path_factory):
    """Two runs of one catalogue with different seeds."""
    catalogue, histories = worlds.data()
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        options = OPTIONS.model_copy(update={"seed": seed})
        run = RunFolder.create(folder / str(seed), catalogue, histories, worlds.config(tiny_backbone("llama")), options)
        fit(run, Progress(enabled=False))
    return folder


@pytest.fixture
def path(trained, tmp_path):
    shutil.copytree(trained / "0" / "bundle", tmp_path / "run" / "bundle")
    return tmp_path / "run"


def opened(path):
    return Live.open(path, options=OPTIONS)


def items(live, history=("item-0", "item-3"), **more):
    (answer,) = live.recommend([RecommendRequest(tuple(history), k=27, **more)])
    return [one.item_id for one in answer.items]


def test_changes_are_there_after_opening_again_in_every_way_of_reading(path):
    live = opened(path)
    found = live.add_items(Catalogue.from_frame(NEW))
    assert found["status"].to_list() == ["added"] * 3
    assert live.remove_items(["item-2", "new-0", "item-2"])["status"].to_list() == ["removed", "removed"]
    assert live.remove_items(["item-2"])["status"].to_list() == ["absent"]
    text = NEW[2:].with_columns(title=pl.lit("another title"))
    assert live.add_items(Catalogue.from_frame(text))["status"].to_list() == ["updated"]
    assert live.add_items(Catalogue.from_frame(NEW[:1]))["status"].to_list() == ["restored"]
    before = items(live)
    assert {"new-0", "new-1", "new-2"} < set(before)
    assert "item-2" not in before
    assert (live.removed("item-2"), live.removed("new-0")) == (True, False)
    again, loaded = opened(path), STORE.load(path, options=OPTIONS)
    assert items(again) == before
    assert [one.item_id for one in loaded.recommend(["item-0", "item-3"], 27)] == before
    for store in (again.store, loaded):
        assert np.array_equal(store.table.codes, live.store.table.codes)
        assert store.catalogue.frame.equals(live.store.catalogue.frame)
    inspection = load_inspection(path)
    assert inspection.explain("new-2").text["title"] == "another title"
    assert np.array_equal(inspection.removed, live.store.removed)
    for item in ("item-0", "new-1"):
        told = inspection.explain(item, neighbours=30)
        assert told == live.explain(item, neighbours=30)
        assert "item-2" not in {one for one, _, _ in told.neighbours} | set(told.same_codes)
        titles = {title for _, titles in told.siblings for title in titles}
        assert "green coats number 2" not in titles
    assert again.codebook_fit() == live.codebook_fit()
    assert live.codebook_fit().items == 3


def test_what_another_process_changes_is_seen_at_the_next_call(path):
    ours, theirs = opened(path), opened(path)
    assert ours.version() == theirs.version() == 0
    theirs.add_items(Catalogue.from_frame(NEW[:2]))
    assert ours.version() == theirs.version() == 2
    assert "new-1" in items(ours)
    ours.add_items(Catalogue.from_frame(NEW[2:]))
    theirs.remove_items(["new-0"])
    assert items(ours) == items(theirs) == items(opened(path))
    assert "new-0" not in items(ours)
    assert np.array_equal(ours.store.table.codes, theirs.store.table.codes)


def test_a_bundle_trained_anew_keeps_what_was_added(path, trained):
    live = opened(path)
    live.add_items(Catalogue.from_frame(NEW))
    live.remove_items(["new-1", "item-4"])
    live.close()
    shutil.rmtree(path / "bundle")
    shutil.copytree(trained / "1" / "bundle", path / "bundle")
    with pytest.warns(StorerecWarning, match="3 items were added under another training"):
        assert len(STORE.load(path, options=OPTIONS).catalogue) == 27
    with pytest.warns(StorerecWarning, match="have no codes here"):
        assert len(load_inspection(path).catalogue) == 24
    again = opened(path)
    assert set(items(again)) == {*again.store.catalogue.ids} - {"new-1", "item-4"}
    tokenized = again.store.tokenize(Catalogue.from_frame(NEW.with_columns(item_id=pl.col("item_id") + "x")))
    assert tokenized["codes"].to_list() == again.store.table.codes[24:].tolist()
    assert len(Journal.beside(path / "bundle").since()) == 8  # 3 and 2, and the 3 encoded anew
    assert len(load_inspection(path).catalogue) == 27
    assert items(opened(path)) == items(again)


def test_a_bundle_saved_with_its_changes_takes_them_once(path):
    live = opened(path)
    live.add_items(Catalogue.from_frame(NEW))
    live.store.save(path / "bundle")
    assert len(opened(path).store.catalogue) == 27
    other = Journal.beside(path / "bundle")
    with other.alone():
        change = other.since()[0]
        other._opened().execute("UPDATE changes SET codes = ? WHERE number = ?", ("[9, 9]", change.number))
    with pytest.raises(BundleError, match="gives item 'new-0' other codes"):
        opened(path)


def test_a_refused_addition_leaves_no_trace(path):
    live = opened(path)
    blank = pl.DataFrame({"item_id": "new-3", "title": "", "kind": " ", "price": "1"})
    with pytest.raises(DataError, match="'new-3': no text"):
        live.add_items(Catalogue.from_frame(pl.concat([NEW, blank])))
    with pytest.raises(DataError, match="no item 'nobody'"):
        live.remove_items(["item-1", "nobody"])
    assert live.codebook_fit() is None
    assert items(live) == items(opened(path))
    assert Journal.beside(path / "bundle").since() == []


def test_users_in_one_batch_get_what_each_would_get_alone(path):
    live = opened(path)
    live.add_items(Catalogue.from_frame(NEW))
    live.remove_items(["item-7"])
    kinds = live.store.catalogue.attribute("kind").to_list()
    requests = [
        RecommendRequest(("item-0", "item-3"), k=5),
        RecommendRequest(("item-0", "item-3"), k=3, exclude=("item-1", "item-5"), exclude_history=True),
        RecommendRequest(("nobody", "item-4"), k=9, where={"kind": (kinds[4], kinds[1])}),
        RecommendRequest(("nobody",), k=2),
        RecommendRequest((), k=2),
        RecommendRequest(("item-1",), k=40, where={"kind": ("no such kind",)}),
        RecommendRequest(("item-1",), exclude=("nobody",)),
        RecommendRequest(("item-1",), where={"colour": ("red",)}),
        RecommendRequest(("item-1",), where={"kind": ()}),
        RecommendRequest(("item-1",), k=0),
        RecommendRequest(("item-1", "item-2"), k=4, exclude_history=True),
    ]
    together = live.recommend(requests)
    for request, answer in zip(requests, together, strict=True):
        (alone,) = live.recommend([request])
        assert str(alone) == str(answer) or [one.item_id for one in alone.items] == [
            one.item_id for one in answer.items
        ]
    assert [len(one.items) for one in together[:6]] == [5, 3, len(together[2].items), 2, 2, 0]
    assert not {"item-0", "item-3", "item-1", "item-5"} & {one.item_id for one in together[1].items}
    allowed = {item for item, kind in zip(live.store.catalogue.ids, kinds, strict=True) if kind in (kinds[4], kinds[1])}
    assert {one.item_id for one in together[2].items} <= allowed - {"item-7"}
    assert len(together[2].items) == min(9, len(allowed - {"item-7"}))
    assert [one.unknown for one in together[2:5]] == [("nobody",), ("nobody",), ()]
    assert [one.fallback for one in together[2:5]] == [None, FALLBACK, FALLBACK]
    assert [one.item_id for one in together[3].items] == [one.item_id for one in together[4].items]
    for answer, told in zip(
        together[6:10], ("no item 'nobody'", "no attribute 'colour'", "no value", "k must"), strict=True
    ):
        assert isinstance(answer, DataError)
        assert told in str(answer)
    assert len(together[10].items) == 4


def test_an_entry_of_a_list_matches(path):
    live = opened(path)
    new = NEW.with_columns(kind=pl.Series(["shoes, red", "shoes", "red shoes"]))
    live.add_items(Catalogue.from_frame(new))
    assert set(items(live, where={"kind": ("shoes",)})) == {"new-0", "new-1"}
    assert items(live, where={"kind": ("shoes, red",)}) == ["new-0"]


def test_scores_and_titles(path):
    live = opened(path)
    live.add_items(Catalogue.from_frame(NEW))
    good, bad = live.score([ScoreRequest(("item-0", "x"), ("new-0", "item-4")), ScoreRequest(("item-0",), ("x",))])
    assert {one.item_id for one in good.items} == {"new-0", "item-4"}
    assert good.unknown == ("x",)
    assert good.scored_by == "log-probability"
    assert isinstance(bad, DataError)
    assert ("new-1", "a purple umbrella") in live.search("PURPLE")
    live.remove_items(["new-1"])
    assert live.search("purple") == []
    found = live.search("red", limit=50)
    assert found[0][1].lower().startswith("red")
    assert len(live.search("", limit=3)) == 3
    assert live.search("(") == []


def changed(item, **texts):
    """An item with other texts in some attributes; the others stay as they are."""

    def made(like):
        stored = like.frame.row(int(like.rows([item])[0]), named=True)
        return Catalogue.from_frame(pl.DataFrame([stored | texts]), text=like.attributes, title="title")

    return made


def test_who_was_overtaken_plans_anew_and_takes_nothing_back(path):
    theirs, overtaken = opened(path), []

    class Overtaken(Journal):
        def write(self, changes, *, after):
            if not overtaken:  # between the plan and its writing
                overtaken.append(changes)
                theirs.add_items(changed("item-1", kind="hats"))
                theirs.add_items(Catalogue.from_frame(NEW[:2]))
            return super().write(changes, after=after)

    ours = Live.open(path, options=OPTIONS, log=Overtaken.beside(path / "bundle"))
    assert ours.add_items(changed("item-1", title="another title"))["status"].to_list() == ["updated"]
    for live in (ours, theirs, opened(path)):
        text = live.explain("item-1").text
        assert (text["title"], text["kind"]) == ("another title", "hats")
        assert {"new-0", "new-1"} < set(items(live))
    theirs.remove_items(["new-0"])
    overtaken.clear()
    assert ours.add_items(Catalogue.from_frame(NEW))["status"].to_list() == ["unchanged", "unchanged", "added"]
    assert [one.kind for one in overtaken[0]] == ["restore", "add"]  # what was planned before
    added = [one.item_id for one in Journal.beside(path / "bundle").since() if one.kind == "add"]
    assert sorted(added) == ["new-0", "new-1", "new-2"]


def test_two_trainings_at_once_know_of_each_others_changes(path, trained):
    """As replicas do of which some have loaded the new bundle and some have not."""
    old = opened(path)
    old.add_items(Catalogue.from_frame(NEW[:1]))
    old.remove_items(["new-0"])
    (path / "bundle").rename(path / "before")  # what is served has it mapped
    shutil.copytree(trained / "1" / "bundle", path / "bundle")
    new = opened(path)
    old.add_items(Catalogue.from_frame(NEW[1:2]))
    new.add_items(Catalogue.from_frame(NEW[2:]))
    assert set(items(old)) == set(items(new)) == {*old.store.catalogue.ids} - {"new-0"}
    assert len(new.store.catalogue) == 27
    old.add_items(changed("item-1", title="told to the old one"))
    new.add_items(changed("new-1", title="told to the new one"))
    old.remove_items(["item-5"])
    new.remove_items(["new-2"])
    last = opened(path)
    for live in (old, new, last):
        assert [live.explain(item).text["title"] for item in ("item-1", "new-1")] == [
            "told to the old one",
            "told to the new one",
        ]
        assert live.store.catalogue.ids.filter(pl.Series(live.store.removed)).sort().to_list() == [
            "item-5", "new-0", "new-2",
        ]  # fmt: skip
    assert np.array_equal(last.store.table.codes, new.store.table.codes)
    assert last.store.catalogue.frame.equals(new.store.catalogue.frame)
    assert items(last) == items(new)
    added = [(one.item_id, one.training) for one in Journal.beside(path / "bundle").since() if one.kind == "add"]
    assert len(set(added)) == len(added) == 6  # each under each training, once
