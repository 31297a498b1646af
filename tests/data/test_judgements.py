"""Judgements: their arrays, their readers on small files in the raw formats, and their splits."""

import json

import numpy as np
import polars as pl
import pytest

from storerec.data import (
    Candidates,
    Catalogue,
    Histories,
    JudgementConfig,
    Judgements,
    JudgementSplitConfig,
    group_ratings,
    read_judgement_table,
    read_judgements,
    read_mind,
    read_yelp,
    split_judgements,
    split_users,
)
from storerec.errors import DataError, RowError, StorerecWarning


def groups(judgements, catalogue):
    """{group id: (history, [(item, label), ...])} by external ids."""
    ids, candidates = catalogue.ids.to_list(), judgements.candidates
    return {
        name: (
            [ids[row] for row in candidates.histories.sequence(g)],
            [
                (ids[candidates.items[place]], bool(judgements.labels[place]))
                for place in range(candidates.offsets[g], candidates.offsets[g + 1])
            ],
        )
        for g, name in enumerate(candidates.histories.user_ids)
    }


def plain_catalogue(n):
    return Catalogue.from_frame(pl.DataFrame({"item_id": [f"i{i}" for i in range(n)], "title": ["x"] * n}))


def some(lengths=(3, 0, 2), labels=(1, 0, 0, 1, 1)):
    histories = Histories.from_arrays(["a", "b", "c"], np.array([0, 2, 2, 3]), np.array([1, 2, 3]))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Judgements(Candidates(histories, offsets, np.array([5, 6, 7, 8, 9])), np.array(labels, bool))


def test_selection_keeps_candidates_with_their_labels_and_histories():
    chosen = some().select(np.array([2, 0]))
    assert chosen.candidates.items.tolist() == [8, 9, 5, 6, 7]
    assert chosen.labels.tolist() == [True, True, True, False, False]
    assert chosen.candidates.histories.sequence(1).tolist() == [1, 2]
    assert chosen.candidates.groups.tolist() == [0, 0, 1, 1, 1]
    assert chosen.user_ids.to_list() == ["c", "a"]
    assert (some().positives.tolist(), some().negatives.tolist()) == ([1, 0, 2], [2, 0, 0])
    assert some().drop_one_sided().user_ids.to_list() == ["a"]


def test_arrays_that_do_not_fit_are_errors():
    with pytest.raises(DataError, match="do not fit 3 groups"):
        some(lengths=(3, 2))
    with pytest.raises(DataError, match="labels must be bool"):
        some(labels=(1, 0))
    histories = some().candidates.histories
    with pytest.raises(DataError, match="must not be negative"):
        Candidates(histories, np.array([0, 1, 1, 1]), np.array([-1]))
    with pytest.raises(DataError, match="must not fall"):
        Candidates(histories, np.array([0, 2, 1, 2]), np.array([1, 2]))


NEWS = "".join(f"N{i}\tsports\tgolf\tTitle {i}\tAbstract\thttp\t[]\t[]\n" for i in range(1, 8))
BEHAVIORS = (
    "1\tU1\t11/11/2019 9:05:58 AM\tN1 N2 N3\tN4-1 N5-0 N6-0\n"
    "2\tU2\t11/12/2019 6:11:30 PM\t\tN1-1 N2-0\n"
    "3\tU1\t11/13/2019 9:00:00 AM\tN1 N2 N3\tN7-0 N99-1 N5-1\n"
)


def mind(folder, behaviors=BEHAVIORS):
    (folder / "news.tsv").write_text(NEWS)
    (folder / "behaviors.tsv").write_text(behaviors)
    return read_mind(folder)[0]


def test_mind_gives_a_group_per_impression_with_its_own_candidates(tmp_path):
    catalogue = mind(tmp_path)
    with pytest.warns(StorerecWarning, match="1 candidates were left out"):
        found = read_judgements("mind", tmp_path, catalogue, JudgementConfig(max_history=2))
    assert groups(found, catalogue) == {
        "1": (["N2", "N3"], [("N4", True), ("N5", False), ("N6", False)]),
        "3": (["N2", "N3"], [("N7", False), ("N5", True)]),
    }
    assert found.user_ids.to_list() == ["U1", "U1"]
    with pytest.warns(StorerecWarning):
        latest = read_judgements("mind", tmp_path, catalogue, JudgementConfig(groups_per_user=1))
    assert list(groups(latest, catalogue)) == ["3"]
    with pytest.raises(DataError, match="not in the catalogue"):
        read_judgements("mind", tmp_path, catalogue, unknown="error")


@pytest.mark.parametrize(
    ("behaviors", "fault"),
    [
        (BEHAVIORS + "4\tU3\tt\tN1\tN2 N3\n", r"line 4, field 'impressions': .*test part has no clicks"),
        (BEHAVIORS + "4\t\tt\tN1\tN2-1\n", "line 4, field 'user_id'"),
        (BEHAVIORS + "4\tU3\tN1\tN2-1\n", "line 4"),
    ],
)
def test_mind_names_the_bad_line(tmp_path, behaviors, fault):
    catalogue = mind(tmp_path)
    (tmp_path / "behaviors.tsv").write_text(behaviors)
    with pytest.raises(RowError, match=fault):
        read_judgements("mind", tmp_path, catalogue)
    with pytest.warns(StorerecWarning) as said:
        assert len(read_judgements("mind", tmp_path, catalogue, bad_rows="skip")) == 2
    assert "1 bad rows were skipped" in str(said[0].message)


def test_mind_impression_ids_must_be_unique(tmp_path):
    catalogue = mind(tmp_path, BEHAVIORS.replace("3\tU1", "1\tU1"))
    with pytest.raises(DataError, match="impression id '1' occurs twice"):
        read_judgements("mind", tmp_path, catalogue)


def yelp(folder, stars):
    business = [{"business_id": f"B{i}", "name": "N", "city": "C", "address": "A", "state": "S"} for i in range(9)]
    reviews = [
        {"review_id": str(n), "user_id": user, "business_id": f"B{item}", "stars": float(star), "date": date}
        for n, (user, item, star, date) in enumerate(stars)
    ]
    for name, rows in (("business", business), ("review", reviews)):
        (folder / f"yelp_{name}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_yelp(folder)[0]


REVIEWS = [
    ("U1", 3, 5, "2019-01-04 00:00:00"),
    ("U1", 0, 1, "2019-01-01 00:00:00"),
    ("U1", 4, 2, "2019-01-05 00:00:00"),
    ("U1", 1, 3, "2019-01-02 00:00:00"),
    ("U1", 2, 4, "2019-01-03 00:00:00"),
    ("U1", 5, 3, "2019-01-06 00:00:00"),
    ("U2", 1, 5, "2019-01-01 00:00:00"),
]


def test_yelp_takes_stars_but_three_and_a_history_of_all_events_before(tmp_path):
    catalogue = yelp(tmp_path, REVIEWS)
    found = read_judgements("yelp", tmp_path, catalogue)
    assert groups(found, catalogue) == {"U1": (["B0", "B1", "B2"], [("B3", True), ("B4", False)])}
    short = read_judgements("yelp", tmp_path, catalogue, JudgementConfig(max_candidates=2, max_history=1))
    assert groups(short, catalogue) == {
        "U1": (["B3"], [("B4", False)]),
        "U1#1": (["B1"], [("B2", True), ("B3", True)]),
    }
    assert short.user_ids.to_list() == ["U1", "U1"]


def test_repeated_items_are_candidates_once_and_never_from_the_history():
    rows = [("u", 0, 1, 5.0), ("u", 1, 2, 5.0), ("u", 2, 3, 1.0), ("u", 3, 4, 4.0)]
    rows += [("u", 0, 5, 1.0), ("u", 4, 6, 5.0), ("u", 4, 7, 1.0), ("u", 5, 8, 4.0)]
    events = pl.DataFrame(rows, schema=["user", "item", "time", "value"], orient="row")
    found = group_ratings(events.with_columns(pl.col("item").cast(pl.Int32)), JudgementConfig())
    assert found.candidates.histories.items.tolist() == [0, 1, 2, 3]
    assert dict(zip(found.candidates.items.tolist(), found.labels.tolist(), strict=True)) == {4: False, 5: True}


def test_no_history_holds_what_came_after_or_with_its_candidates():
    rng = np.random.default_rng(0)
    n = 3000
    events = pl.DataFrame(
        {
            "user": [f"u{u}" for u in rng.integers(0, 60, n)],
            "item": np.arange(n, dtype=np.int32),  # each event its own item: its time can be looked up
            "time": rng.permutation(n),
            "value": rng.integers(1, 6, n).astype(float),
        }
    )
    found = group_ratings(events, JudgementConfig(max_candidates=7, max_history=9))
    time, candidates = events["time"].to_numpy(), found.candidates
    owner = events["user"].to_numpy()
    for group in range(len(found)):
        past = candidates.histories.sequence(group)
        shown = candidates.items[candidates.offsets[group] : candidates.offsets[group + 1]]
        assert 1 <= len(past) <= 9
        assert 1 <= len(shown) <= 7
        assert time[past].max() < time[shown].min()
        assert set(owner[np.concatenate([past, shown])]) == {found.user_ids[group]}
    value = events["value"].to_numpy()[candidates.items]
    assert (found.labels == (value > 3)).all()
    assert not (value == 3).any()
    assert len(np.unique(candidates.items)) == len(candidates.items)  # groups of a user do not overlap


def test_tables_bring_labels_or_ratings(tmp_path):
    catalogue = plain_catalogue(6)
    path = tmp_path / "events.csv"
    path.write_text("user_id,item_id,timestamp,label\n" + "".join(f"u,i{i},{i},{i % 2}\n" for i in range(6)))
    found = read_judgement_table(path, catalogue, label="label")
    assert groups(found, catalogue) == {"u": (["i0", "i1", "i2"], [("i3", True), ("i4", False), ("i5", True)])}
    assert read_judgement_table(path, catalogue, rating="timestamp").labels.tolist() == [True, True]  # 3 is dropped
    with pytest.raises(DataError, match="either"):
        read_judgement_table(path, catalogue)
    with pytest.raises(DataError, match=r"no column 'stars'.*--rating"):
        read_judgement_table(path, catalogue, rating="stars")
    path.write_text("user_id,item_id,timestamp,stars\nu,i1,1,5\nu,i2,2,nan\n")
    with pytest.raises(RowError, match="line 3, field 'stars'"):
        read_judgement_table(path, catalogue, rating="stars")
    path.write_text("user_id,item_id,timestamp,label\nu,i1,1,1\nu,i2,2,maybe\n")
    with pytest.raises(RowError, match="line 3, field 'label'"):
        read_judgement_table(path, catalogue, label="label")


def test_movielens_layouts_give_the_same_judgements(tmp_path):
    catalogue = Catalogue.from_frame(pl.DataFrame({"item_id": ["1", "2", "3", "4"], "title": list("abcd")}))
    rows = [("7", "2", "5", "30"), ("7", "1", "1", "10"), ("7", "3", "2", "40"), ("7", "4", "3", "20")]
    atomic = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    files = {
        "u.data": "".join("\t".join(row) + "\n" for row in rows),
        "ratings.dat": "".join("::".join(row) + "\n" for row in rows),
        "ratings.csv": "userId,movieId,rating,timestamp\n" + "".join(",".join(row) + "\n" for row in rows),
        "ml.inter": atomic + "".join("\t".join(row) + "\n" for row in rows),
    }
    for name, text in files.items():
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (folder / name).write_text(text)
        found = read_judgements("movielens", folder, catalogue)
        assert groups(found, catalogue) == {"7": (["1", "4"], [("2", True), ("3", False)])}, name


def many(users=40, each=3):
    ids = [f"{u}/{g}" for u in range(users) for g in range(each)]
    histories = Histories.from_arrays(ids, np.arange(len(ids) + 1), np.zeros(len(ids), int))
    candidates = Candidates(histories, np.arange(len(ids) + 1) * 2, np.zeros(2 * len(ids), int))
    owners = pl.Series([str(u) for u in range(users) for _ in range(each)])
    return Judgements(candidates, np.tile([True, False], len(ids)), owners)


def test_users_are_in_one_part_and_the_draw_does_not_see_their_order():
    judgements = many()
    config = JudgementSplitConfig(test_users=10)
    parts = split_judgements(judgements, config, seed=3)
    users = [set(part.user_ids) for part in (parts.train, parts.validation, parts.test)]
    assert [len(part) for part in users] == [27, 3, 10]
    assert len(set.union(*users)) == 40
    mixed = judgements.select(np.random.default_rng(0).permutation(len(judgements)))
    assert set(split_judgements(mixed, config, seed=3).test.user_ids) == users[2]
    assert set(split_judgements(judgements, config, seed=4).test.user_ids) != users[2]
    # the same users are drawn as for the recommendation task
    ids = judgements.user_ids.unique()
    histories = Histories.from_arrays(ids, np.arange(41) * 2, np.zeros(80, int))
    divided = split_users(histories, 10, 0.1, 20, 3)
    assert set(divided.test.histories.user_ids) == users[2]
    assert set(divided.validation.histories.user_ids) == users[1]
    like = split_judgements(judgements, JudgementSplitConfig(), 0, like=divided)
    assert set(like.test.user_ids) == users[2]
    assert len(like.train) == 3 * 27
    small = split_judgements(judgements, JudgementSplitConfig(test_users=0.25, train_users=20), seed=3)
    assert [len(part) for part in (small.train, small.validation, small.test)] == [54, 6, 30]
    with pytest.raises(DataError, match="5000 test users"):
        split_judgements(judgements, JudgementSplitConfig(), 0)
