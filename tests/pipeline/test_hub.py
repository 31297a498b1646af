"""Bundles on the hub: the card, a folder, and the client without a network."""

import shutil

import pytest
from huggingface_hub import ModelCard, constants

from storerec.config import RunOptions
from storerec.errors import BundleError
from storerec.llm.progress import Progress
from storerec.pipeline import STORE, RunFolder, evaluate_run, fit
from storerec.pipeline.hub import model_card, save_pretrained
from tests import worlds

OPTIONS = RunOptions(device="cpu", dtype="float32", progress=False)


@pytest.fixture(scope="module")
def run(tiny_backbone, tmp_path_factory):
    catalogue, histories = worlds.data()
    folder = tmp_path_factory.mktemp("run") / "r"
    run = RunFolder.create(folder, catalogue, histories, worlds.config(tiny_backbone("llama")), OPTIONS)
    fit(run, Progress(enabled=False))
    return run


def test_the_card_says_what_is_in_it_and_is_what_the_hub_reads(run, tmp_path):
    store, measured = STORE.of_run(run), evaluate_run(run, plots=False)
    text = model_card(store, name="shop/films", evaluation=measured)
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.library_name == "storerec"
    assert "base_model" not in card.data.to_dict()  # the backbone is a folder of this machine
    assert 'STORE.from_pretrained("shop/films")' in text
    assert "24 items with their texts (title, kind)" in text
    assert str(store.config.backbone.name) not in text
    value = measured.systems["store"].item_level["recall@10"].value
    assert f"| store | {value:.4f} [" in text
    assert "Not measured" in model_card(store, name="x")


def test_a_folder_with_its_card_is_loaded_by_name(run, tmp_path):
    save_pretrained(STORE.of_run(run), tmp_path / "films", name="films")
    assert (tmp_path / "films" / "README.md").read_text().startswith("---\nlibrary_name: storerec\n")
    ours = STORE.of_run(run).recommend(["item-0"], 5)
    assert [
        one.item_id for one in STORE.from_pretrained(str(tmp_path / "films"), options=OPTIONS).recommend(["item-0"], 5)
    ] == [one.item_id for one in ours]


def test_without_a_network_what_was_fetched_before_is_used(run, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    commit = "a" * 40
    place = tmp_path / "models--shop--films"
    save_pretrained(STORE.of_run(run), place / "snapshots" / commit, name="shop/films")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    found = STORE.from_pretrained("shop/films", options=OPTIONS)
    assert len(found.recommend(["item-0"], 3)) == 3
    with pytest.raises(BundleError, match="'shop/hats' is no folder here"):
        STORE.from_pretrained("shop/hats", options=OPTIONS)
    with pytest.raises(BundleError, match="not a name"):
        STORE.from_pretrained("not a name", local_files_only=True)
    with pytest.raises(BundleError, match="'shop/films' could not be pushed"):
        found.push_to_hub("shop/films")
    (place / "snapshots" / commit / "manifest.json").unlink()
    with pytest.raises(BundleError, match="no storerec bundle"):
        STORE.from_pretrained("shop/films", options=OPTIONS)
    shutil.rmtree(place)
