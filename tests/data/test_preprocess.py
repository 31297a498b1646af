import json

import numpy as np
import pytest

from storerec.data import (
    MIND_PAPER,
    YELP_PAPER,
    Histories,
    PreprocessConfig,
    preprocess_dataset,
    preprocess_mind,
    preprocess_yelp,
    read_mind,
    split,
)
from storerec.errors import DataError


def write_mind(folder, users=30, news=40):
    rng = np.random.default_rng(0)
    lines = [f"N{n}\tcat\tsub{n}\tTitle {n}\tAbstract {n}\turl\t[]\t[]\n" for n in range(news)]
    (folder / "news.tsv").write_text("".join(lines))
    lines = []
    for user in range(users):
        history = " ".join(f"N{n}" for n in rng.integers(0, news - 5, 1 + user))
        lines.append(f"{user}\tU{user}\t11/15/2019 8:55:22 AM\t{history}\tN1-0\n")
    (folder / "behaviors.tsv").write_text("".join(lines))


def test_mind_as_in_the_paper(tmp_path):
    write_mind(tmp_path)
    result = preprocess_mind(tmp_path, seed=0)
    assert result.config is MIND_PAPER
    assert result.catalogue.attributes == ("title", "abstract", "category", "subcategory")
    assert result.histories.lengths.max() == 20
    assert len(result.histories) == 29  # the user with one item is left out
    raw_catalogue, raw = read_mind(tmp_path)
    for number, user in enumerate(result.histories.user_ids):
        before = raw_catalogue.ids.to_numpy()[raw.sequence(int(raw.rows([user])[0]))][-20:]
        after = result.catalogue.ids.to_numpy()[result.histories.sequence(number)]
        assert after.tolist() == before.tolist()
    stats = result.stats
    assert (stats.items, stats.users) == (len(result.catalogue), 29)
    assert (result.histories.item_counts(stats.items) > 0).all()  # every item occurs
    assert stats.average_length * stats.users == pytest.approx(result.histories.items.size)
    assert stats.average_appearance * stats.items == pytest.approx(result.histories.items.size)
    assert stats.to_json()["users"] == 29


def test_sampling_depends_on_seed_and_ids_only(tmp_path):
    write_mind(tmp_path)
    catalogue, histories = read_mind(tmp_path)
    config = PreprocessConfig(content_attributes=("title",), users=10, test_users=3)
    result = preprocess_dataset(catalogue, histories, config, seed=4)
    assert len(result.histories) == 10
    assert result.catalogue.attributes == ("title",)
    turned = histories.select(np.arange(len(histories))[::-1])
    other = preprocess_dataset(catalogue, turned, config, seed=4)
    assert set(other.histories.user_ids) == set(result.histories.user_ids)
    assert other.catalogue.frame.equals(result.catalogue.frame)
    assert set(preprocess_dataset(catalogue, histories, config, seed=5).histories.user_ids) != set(
        result.histories.user_ids
    )
    assert len(split(result.histories, config.split, 0).test) == 3


def test_yelp_as_in_the_paper(tmp_path):
    shops = [{"business_id": f"b{n}", "name": f"n{n}", "city": "c", "address": "a", "state": "s"} for n in range(4)]
    reviews = [
        {"user_id": user, "business_id": f"b{shop}", "stars": 2.0, "date": f"2020-01-0{day} 00:00:00"}
        for user, shop, day in [("u", 2, 3), ("u", 0, 1), ("v", 2, 1), ("w", 1, 1), ("w", 2, 1)]
    ]
    (tmp_path / "business.json").write_text("".join(json.dumps(row) + "\n" for row in shops))
    (tmp_path / "review.json").write_text("".join(json.dumps(row) + "\n" for row in reviews))
    result = preprocess_yelp(tmp_path, seed=0)
    assert result.config is YELP_PAPER
    assert result.catalogue.attributes == ("name", "city", "address", "state")
    assert result.catalogue.ids.to_list() == ["b0", "b1", "b2"]
    assert result.histories.user_ids.to_list() == ["u", "w"]
    assert result.histories.items.tolist() == [0, 2, 1, 2]
    assert result.stats.average_length == 2


def test_faults(tmp_path):
    write_mind(tmp_path)
    catalogue, histories = read_mind(tmp_path)
    with pytest.raises(DataError, match="no attribute 'name'"):
        preprocess_dataset(catalogue, histories, YELP_PAPER, seed=0)
    short = Histories.from_arrays(["u"], np.array([0, 1]), np.array([0]))
    with pytest.raises(DataError, match="no user has 2 or more items"):
        preprocess_dataset(catalogue, short, MIND_PAPER, seed=0)
