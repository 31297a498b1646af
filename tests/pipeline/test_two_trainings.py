"""Two trainings of one bundle at a time, the later of which knows more items and reads less of them."""

import shutil

import polars as pl
import pytest

from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.errors import DataError, ItemError, StorerecWarning
from storerec.llm.progress import Progress
from storerec.pipeline import STORE, RunFolder, fit, load_inspection
from tests import worlds
from tests.pipeline.test_live import changed, items, opened

OPTIONS = RunOptions(device="cpu", dtype="float32", progress=False)
MORE = "item-24"
"""What only the later training's catalogue has."""


@pytest.fixture(scope="module")
def bundles(tiny_backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, count, content in (("before", 24, ["title", "kind"]), ("after", 25, ["title"])):
        config = worlds.config(tiny_backbone("llama"))
        config = config.model_copy(
            update={"tokenizer": config.tokenizer.model_copy(update={"content": tuple(content)})}
        )
        catalogue = Catalogue.from_frame(worlds.items(count))
        run = RunFolder.create(
            folder / name, catalogue, Histories.from_events(worlds.events(), catalogue), config, OPTIONS
        )
        fit(run, Progress(enabled=False))
    return folder


def lies(bundles, name, path):
    """Put a bundle in the place of what is there."""
    if (path / "bundle").exists():
        (path / "bundle").rename(path / "replaced")  # what is served has it mapped
    shutil.copytree(bundles / name / "bundle", path / "bundle")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def both(path, bundles):
    """One that has opened the bundle before it was replaced, and one that opened it since."""
    lies(bundles, "before", path)
    old = opened(path)
    lies(bundles, "after", path)
    return old, opened(path)


def item(name, **texts):
    return Catalogue.from_frame(pl.DataFrame([{"item_id": name} | texts]), text=("title", "kind"), title="title")


def titles(name, *lives):
    return [live.explain(name).text["title"] for live in lives]


def test_a_text_told_to_the_new_one_outlives_being_encoded_by_the_old_one(both, path):
    old, new = both
    assert new.add_items(changed(MORE, title="told to the new one"))["status"].to_list() == ["updated"]
    assert MORE in items(old), "it was encoded there"
    assert titles(MORE, old, new, opened(path)) == ["told to the new one"] * 3


def test_what_is_added_to_the_old_one_is_told_to_the_new_one_that_has_the_item(both, path):
    old, new = both
    another = opened(path)
    new.remove_items([MORE])
    assert MORE not in items(new)
    kind = new.explain(MORE).text["kind"]
    found = old.add_items(item(MORE, title="told to the old one", kind=""))
    assert found["status"].to_list() == ["added"]
    assert titles(MORE, old) == ["told to the old one"]
    for live in (new, another, opened(path)):
        assert live.explain(MORE).text == {"title": "told to the old one", "kind": kind}
        assert not live.removed(MORE)
    assert load_inspection(path).explain(MORE).text["kind"] == kind


def test_what_the_new_one_does_not_know_comes_back_for_all(path, bundles):
    lies(bundles, "after", path)
    old = opened(path)
    old.remove_items([MORE])
    lies(bundles, "before", path)
    new, another = opened(path), opened(path)
    found = new.add_items(item(MORE, title="told to the new one", kind="green coats"))
    assert found["status"].to_list() == ["added"]
    for live in (old, new, another, opened(path)):
        assert titles(MORE, live) == ["told to the new one"]
        assert not live.removed(MORE)
        assert MORE in items(live)
    assert not load_inspection(path).removed.any()


def test_an_item_that_cannot_be_encoded_keeps_no_other_out(both, path):
    old, new = both
    old.add_items(item("mute", title="", kind="blue hats"))
    old.add_items(item("fine", title="a purple umbrella", kind="umbrellas"))
    old.remove_items(["mute"])
    with pytest.warns(StorerecWarning, match="item 'mute': no text in title, .* until it is added anew"):
        assert "fine" in items(new)
    items(new)  # told once
    with pytest.raises(DataError, match="no item 'mute'"):
        new.removed("mute")
    with pytest.warns(StorerecWarning, match="encoded anew"), pytest.warns(StorerecWarning, match="item 'mute'"):
        loaded = STORE.load(path, options=OPTIONS)
    assert "fine" in set(loaded.catalogue.ids)
    with pytest.warns(StorerecWarning, match="item 'mute'"):
        another = opened(path)
    with pytest.raises(ItemError, match="item 'mute': no text"):
        new.add_items(item("mute", title="", kind="blue hats"))
    assert new.add_items(item("mute", title="a hat", kind="blue hats"))["status"].to_list() == ["added"]
    new.remove_items(["item-3"])
    for live in (new, another, opened(path)):
        assert titles("mute", live) == ["a hat"]
        assert not live.removed("mute")
    assert "mute" in items(old)
    assert titles("mute", old) == ["a hat"]
