"""New items from hiding to the table."""

import json
from contextlib import closing

import numpy as np
import polars as pl
import pytest

from storerec.comparison.cold_start import _Reserving, cold_start
from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.data.cold_items import hide_items
from storerec.errors import DataError
from storerec.llm.progress import Progress
from storerec.pipeline import Live, RunFolder
from storerec.systems.base import Exclusions
from storerec.systems.sasrec_model import SasRecConfig
from tests import worlds

OPTIONS = RunOptions(device="cpu", dtype="float32", progress=False)
SASREC = SasRecConfig.parse({"width": 8, "training": {"max_steps": 3}})


@pytest.fixture(scope="module")
def measured(tiny_backbone, tmp_path_factory):
    catalogue, histories = worlds.data()
    folder = tmp_path_factory.mktemp("cold")
    config = worlds.config(tiny_backbone("llama"))
    parts = (catalogue, histories, config, 0.25, folder, OPTIONS, Progress(enabled=False))
    return parts, cold_start(*parts, sasrec=SASREC)


def test_all_systems_rank_the_same_users_twice(measured):
    (catalogue, histories, _, _, folder, *_), found = measured
    cold = hide_items(catalogue, histories, 0.25, 0)
    others = ["popularity", "markov", "sasrec", "content similarity"]
    reserving = ["store, 10% for new items", "store, 20% for new items"]
    assert list(found.among_new.systems) == ["store", *others]
    for one in (found.whole, found.known):
        assert list(one.systems) == ["store", *reserving, *others]
        assert one.n_items == len(catalogue)
    assert found.whole.users == found.among_new.users == len(cold.cases)
    assert found.known.users == len(RunFolder.open(folder / "run", OPTIONS).split.test)
    zero = {name: system.item_level["recall@20"].value for name, system in found.among_new.systems.items()}
    # six new items: who can list them all finds each target among twenty
    assert zero == {"store": 1.0, "popularity": 1.0, "markov": 1.0, "sasrec": 0.0, "content similarity": 1.0}
    assert found.whole.systems["sasrec"].item_level["recall@20"].value == 0.0
    assert found.codebook_fit["items"] == len(cold.hidden) == 6
    assert json.loads((folder / "cold_start.json").read_text())["notes"] == list(found.notes)
    text = "\n".join(str(section) for section in found.document("New items", "the command").sections)
    assert "content similarity" in text
    live = Live.open(folder / "run", options=OPTIONS)
    assert live.store.catalogue.ids[-6:].to_list() == cold.hidden.ids.to_list()


def test_places_are_kept_in_what_is_measured(measured):
    (catalogue, histories, _, _, folder, *_), found = measured
    cold = hide_items(catalogue, histories, 0.25, 0)
    with closing(Live.open(folder / "run", options=OPTIONS)) as live:
        for share, least in ((1.0, 6), (0.5, 3)):
            lists = _Reserving(live.store, share).recommend(cold.cases.histories, 6, exclude=Exclusions())
            assert ((lists.items >= len(cold.warm)).sum(axis=1) >= least).all()
    figures = {name: one.item_level["ndcg@20"].value for name, one in found.whole.systems.items()}
    assert figures["store, 20% for new items"] != figures["store"]
    assert found.known.notes != found.whole.notes


def test_a_table_of_few_users_says_so(measured):
    parts, _ = measured
    few = cold_start(*parts, sasrec=SASREC, test_users=5)
    for one in (few.whole, few.among_new, few.known):
        assert one.users == 5
        assert any("users were drawn" in note for note in one.notes)


def test_nothing_of_the_hidden_items_reaches_training(measured):
    (catalogue, histories, _, _, folder, *_), _ = measured
    cold = hide_items(catalogue, histories, 0.25, 0)
    run = RunFolder.open(folder / "run", OPTIONS)
    assert not set(run.catalogue.ids) & set(cold.hidden.ids)
    assert len(run.table) == len(cold.warm)
    for user, name in enumerate(cold.cases.histories.user_ids):
        row = run.histories.user_ids.to_list().index(name)
        assert np.array_equal(run.histories.sequence(row), cold.cases.histories.sequence(user))


def test_the_same_call_goes_on_and_gives_the_same(measured):
    parts, found = measured

    def figures(one):
        return {name: system.item_level for name, system in one.systems.items()}

    again = cold_start(*parts, sasrec=SASREC)
    assert figures(again.whole) == figures(found.whole)
    assert figures(again.among_new) == figures(found.among_new)
    assert figures(again.known) == figures(found.known)
    live = Live.open(parts[4] / "run", options=OPTIONS)
    live.add_items(Catalogue.from_frame(worlds.items()[:1].with_columns(item_id=pl.lit("other"))))
    with pytest.raises(DataError, match="other items were added"):
        cold_start(*parts, sasrec=SASREC)
