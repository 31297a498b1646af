"""Data of a comparison by name."""

import re

import pytest

from storerec.comparison import ComparisonConfig, load_data
from storerec.comparison.config import PRESETS
from storerec.comparison.datasets import table1_note
from storerec.data import MIND_TABLE1
from storerec.data.preprocess import DatasetStats
from storerec.errors import ConfigError, DataError
from storerec.systems.registry import RECIPES
from tests import worlds


def write_tables(folder, ending):
    for name, frame in (("items", worlds.items()), ("events", worlds.events())):
        path = folder / f"{name}.{ending}"
        if ending == "parquet":
            frame.write_parquet(path)
        elif ending == "jsonl":
            frame.write_ndjson(path)
        else:
            frame.write_csv(path, separator="\t" if ending == "tsv" else ",")


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_own_tables(tmp_path, ending):
    write_tables(tmp_path, ending)
    data = load_data(str(tmp_path))
    catalogue, histories = worlds.data()
    assert data.catalogue.frame.equals(catalogue.frame)
    assert data.histories.user_ids.to_list() == histories.user_ids.to_list()
    assert data.histories.items.tolist() == histories.items.tolist()
    assert (data.name, data.preset, data.kind, data.notes) == (tmp_path.name, "cpu", None, ())


def test_faults_of_own_tables_name_what_is_missing(tmp_path):
    with pytest.raises(DataError, match=r"none: no such folder.*movielens-100k, mind:FOLDER, yelp:FOLDER"):
        load_data(str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"exactly one of items\.csv, items\.tsv.*found none"):
        load_data(str(tmp_path))
    write_tables(tmp_path, "csv")
    (tmp_path / "events.csv").unlink()
    with pytest.raises(DataError, match=r"exactly one of events\.csv.*found none"):
        load_data(str(tmp_path))
    write_tables(tmp_path, "csv")
    worlds.items().write_parquet(tmp_path / "items.parquet")
    with pytest.raises(DataError, match=r"found items\.csv, items\.parquet"):
        load_data(str(tmp_path))


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("mind", "https://msnews.github.io"),
        ("yelp", "https://business.yelp.com/data/resources/open-dataset/"),
        ("amazon", "https://amazon-reviews-2023.github.io"),
        ("movielens", "https://grouplens.org/datasets/movielens"),
    ],
)
def test_public_datasets_say_where_their_files_are(tmp_path, kind, place):
    for name in (kind, f"{kind}:{tmp_path / 'none'}"):
        with pytest.raises(DataError, match=re.escape(place)) as told:
            load_data(name)
        assert f"--data {kind}:FOLDER" in str(told.value)
        assert ("no such folder" in str(told.value)) == (":" in name)
    with pytest.raises(DataError):
        load_data(f"{kind}:{tmp_path}")  # there, but empty


def test_raw_folders_are_reduced_as_in_the_paper_and_held_against_its_counts(raw_mind, raw_yelp):
    for kind, folder, first in (("mind", raw_mind, "title"), ("yelp", raw_yelp, "name")):
        data = load_data(f"{kind}:{folder}")
        assert (data.name, data.preset, data.kind, data.folder) == (kind, kind, kind, folder)
        assert data.catalogue.attributes[0] == first
        assert len(data.catalogue.attributes) == 4
        assert (data.histories.lengths >= 2).all()
        (note,) = data.notes
        assert "DIFFER" in note
        assert f"items {len(data.catalogue)} (paper" in note


def test_table_1_agrees_within_a_percent():
    near = DatasetStats(25_700, 45_000, 11.8, 20.6)
    assert "agree within 1%" in table1_note(near, MIND_TABLE1)
    assert "items 25,700 (paper 25,634)" in table1_note(near, MIND_TABLE1)
    for far in (DatasetStats(26_000, 45_000, 11.8, 20.6), DatasetStats(25_700, 45_000, 11.8, 20.0)):
        assert "DIFFER" in table1_note(far, MIND_TABLE1)


def test_presets_are_whole_and_files_and_choices_stand_over_them(tmp_path):
    for name in PRESETS:
        assert ComparisonConfig.preset(name)
    assert {"mind", "yelp", "movielens-100k", "amazon"} <= set(PRESETS)
    with pytest.raises(ConfigError, match="no comparison preset 'imdb'; there are: movielens-100k"):
        ComparisonConfig.preset("imdb")
    file = tmp_path / "own.json"
    file.write_text('{"store": {"search": {"beam": 7}}, "tuning": {"rates": [3]}}')
    found = ComparisonConfig.assembled("amazon", file, exclude_history=False)
    preset = ComparisonConfig.preset("amazon")
    assert found.store.search.beam == 7
    assert found.tuning.rates == (3.0,)
    assert found.store.recommender == preset.store.recommender
    assert (found.store.evaluation.exclude_history, preset.store.evaluation.exclude_history) == (False, True)
    assert ComparisonConfig.assembled("amazon", file, rates=(1.0, 2.0)).tuning.rates == (1.0, 2.0)
    assert ComparisonConfig.assembled("amazon", dropouts=(0.5, 1.0)).tuning.dropouts == (0.5, 1.0)
    file.write_text('{"store": {"search": {"beams": 7}}}')
    with pytest.raises(ConfigError, match=r"own\.json.*store\.search\.beams"):
        ComparisonConfig.assembled("amazon", file)


def test_a_system_can_have_settings_of_its_own(tmp_path):
    file = tmp_path / "own.json"
    file.write_text(
        '{"own": {"p5": {"dropout": 0.7, "item_rows": true}, "store": {"layers": 3, "joint": {"epochs": 7}}}}'
    )
    config = ComparisonConfig.assembled("cpu", file)
    shared = config.store.recommender
    assert config.recommender(RECIPES["p5"]).dropout == 0.7
    assert not config.recommender(RECIPES["p5"]).item_rows, "what makes it P5 stays"
    assert config.recommender(RECIPES["tiger-llm"]).dropout == shared.dropout
    for name in ("store", "store-soft"):
        found = config.recommender(RECIPES[name])
        assert found.layers == 3 != shared.layers
        assert found.joint == shared.joint.model_copy(update={"epochs": 7}), "fields inside fields are laid over too"
    for bad, told in (('{"sasrec": {}}', "p5, tiger-llm"), ('{"p5": {"dropuot": 1}}', "dropuot")):
        file.write_text(f'{{"own": {bad}}}')
        with pytest.raises(ConfigError, match=told) as error:
            ComparisonConfig.assembled("cpu", file)
        assert "own.json" in str(error.value)
