import json
from dataclasses import replace

import numpy as np
import pytest

from storerec.errors import ConfigError, DataError
from storerec.evaluation.comparison import Comparison
from storerec.evaluation.config import EvaluationConfig
from storerec.evaluation.metrics import item_ranks, paper_ndcg, recall, tuple_ranks
from storerec.evaluation.novelty import list_means, long_tail, self_information
from storerec.evaluation.pairing import Resampling, differences
from storerec.evaluation.ranked import joined_notes
from storerec.evaluation.significance import holm, sign_flip_p
from tests.evaluation.comparisons import CONFIG, N, cells, compare, world


@pytest.fixture(scope="module")
def comparison():
    return compare()


def test_values_are_seed_averages_of_users(comparison):
    _, cases = world()
    own = [c for c in cells() if c.system == "store"]
    hits = np.stack([recall(item_ranks(c.items, cases.targets), 10) for c in own])
    found = comparison.systems["store"]
    assert found.item_level["recall@10"].value == pytest.approx(hits.mean())
    assert found.seeds == (1, 2, 3)
    assert found.seed_means["recall@10"] == pytest.approx(tuple(hits.mean(axis=1)))
    assert found.seed_std["recall@10"] == pytest.approx(hits.mean(axis=1).std(ddof=1))
    assert comparison.systems["popularity"].seed_std["recall@10"] is None
    for interval in found.item_level.values():
        assert interval.low <= interval.value <= interval.high
    assert {f"{m}@{k}" for m in ("recall", "ndcg") for k in (1, 5, 10, 20)} | {"mrr@20"} == set(found.item_level)


def test_tuple_level_and_papers_formula_have_their_own_names(comparison):
    _, cases = world()
    own = [c for c in cells() if c.system == "store"]
    by_tuple = np.mean([recall(tuple_ranks(c.items, cases.targets, c.tuple_of), 10) for c in own])
    formula = np.mean([paper_ndcg(item_ranks(c.items, cases.targets), 10) for c in own])
    found = comparison.systems["store"]
    assert found.tuple_level["recall@10"].value == pytest.approx(by_tuple)
    assert found.paper_formula["paper_ndcg@10"].value == pytest.approx(formula)
    assert found.paper_formula["paper_ndcg@10"].value > found.item_level["ndcg@10"].value
    assert comparison.systems["popularity"].tuple_level is None
    short = EvaluationConfig(ks=(1, 10), bootstrap_samples=10)
    cut = [replace(c, items=c.items[:, :10]) for c in cells()]
    assert compare(cut, config=short).systems["store"].paper_formula == {}


def test_pairwise_tests_are_paired_on_seed_averages_and_corrected(comparison):
    _, cases = world()

    def averaged(name):
        return np.mean([recall(item_ranks(c.items, cases.targets), 10) for c in cells() if c.system == name], axis=0)

    others = list(comparison.differences)
    assert comparison.reference == "store"
    assert others == ["popularity", "twin", "better <&|_$%>"]
    rows = np.stack([averaged("store") - averaged(name) for name in others])
    p = sign_flip_p(rows, flips=500, seed=7)
    for name, row, raw, adjusted in zip(others, rows, p, holm(p), strict=True):
        found = comparison.differences[name]["recall@10"]
        assert found.value == pytest.approx(row.mean())
        assert found.low <= found.value <= found.high
        assert (found.p, found.p_adjusted) == pytest.approx((raw, adjusted))
        assert (found.better, found.worse) == ((row > 0).sum(), (row < 0).sum())
    assert comparison.differences["popularity"]["recall@10"].p_adjusted < 0.05
    assert comparison.differences["popularity"]["recall@10"].value > 0
    assert comparison.differences["better <&|_$%>"]["recall@10"].value < 0
    assert comparison.differences["better <&|_$%>"]["recall@10"].p_adjusted < 0.05
    assert comparison.differences["twin"]["recall@10"].p == 1


def test_slices_average_to_the_whole(comparison):
    for result in comparison.systems.values():
        assert sum(part.n for part in result.slices.values()) == comparison.users
        total = sum(part.n * part.item["ndcg@10"].value for part in result.slices.values() if part.n)
        assert total / comparison.users == pytest.approx(result.item_level["ndcg@10"].value)
    assert comparison.systems["store"].slices["never"].n > 0


def test_list_figures(comparison):
    train, _ = world()
    counts = train.item_counts(N)
    own = [c.items for c in cells() if c.system == "store"]
    bits = np.mean([-np.log2((counts[i[:, :5]] + 1) / (counts.sum() + N)).mean() for i in own])
    found = comparison.systems["store"].lists
    assert found["novelty@5"] == pytest.approx(bits)
    assert found["coverage@20"] == pytest.approx(np.mean([len(np.unique(i)) / N for i in own]))
    assert comparison.systems["popularity"].lists["novelty@5"] < found["novelty@5"]
    assert comparison.systems["popularity"].lists["long_tail@5"] < found["long_tail@5"]


def test_novelty_by_hand():
    counts = np.array([6, 3, 2, 1, 0])
    np.testing.assert_allclose(self_information(counts), -np.log2(np.array([7, 4, 3, 2, 1]) / 17))
    assert np.exp2(-self_information(counts)).sum() == pytest.approx(1)
    assert long_tail(counts).tolist() == [False, True, True, True, True]  # 6 of 12 events are a third already
    assert long_tail(np.array([1, 1, 1, 1])).tolist() == [False, False, True, True]
    lists = np.array([[0, 3, -1], [2, -1, -1], [-1, -1, -1]])
    assert list_means(lists, counts, 3) == pytest.approx((3.5 + 2) / 2)
    assert list_means(lists, counts, 1) == pytest.approx((6 + 2) / 2)
    assert np.isnan(list_means(lists[2:], counts, 3))


def test_json_round_trip(comparison, tmp_path):
    text = json.dumps(comparison.to_json(), allow_nan=False)
    again = Comparison.from_json(json.loads(text))
    assert again.to_json() == comparison.to_json()
    assert again.ranks is None
    assert json.loads(text)["ranking"] == "full"
    with pytest.raises(DataError, match="no per-user ranks"):
        again.write_per_user(tmp_path / "a.json", user_ids=[], item_ids=[])
    with pytest.raises(ConfigError, match="systems"):
        Comparison.from_json({})


def test_per_user_file_holds_what_the_means_rest_on(comparison, tmp_path):
    _, cases = world()
    path, ids = tmp_path / "deep" / "per_user.json", [f"i{i}" for i in range(N)]
    comparison.write_per_user(path, user_ids=cases.histories.user_ids, item_ids=ids)
    found = json.loads(path.read_text())
    assert found["users"] == cases.histories.user_ids.to_list()
    assert found["targets"] == [ids[t] for t in cases.targets]
    assert set(found["item_ranks"]["store"]) == {"1", "2", "3"}
    assert set(found["tuple_ranks"]) == {"store", "twin"}
    ranks = np.array(list(found["item_ranks"]["store"].values()))
    value = ((ranks > 0) & (ranks <= 10)).mean()
    assert value == pytest.approx(comparison.systems["store"].item_level["recall@10"].value)
    with pytest.raises(DataError, match="1 user ids"):
        comparison.write_per_user(path, user_ids=["a"], item_ids=ids)


def test_failures_do_not_stop_the_rest(comparison):
    assert comparison.failures == {"p5": "out of memory", "sasrec, seed 3": "not run"}
    without = compare([c for c in cells() if c.system != "store"], failures={"store": "killed"})
    assert without.reference is None
    assert without.differences == {}
    assert "twin" in without.systems


def test_unknown_times_and_settings_survive_json():
    given = cells()[0]
    found = compare([replace(given, train_seconds=float("nan"))], settings={"budget": (1, 2), "folder": object})
    assert found.systems["store"].train_seconds == (None,)
    assert found.settings["budget"] == [1, 2]
    json.dumps(found.to_json(), allow_nan=False)


def test_seeds_move_draws_only(comparison):
    other = compare(seed=8)
    a, b = (c.systems["store"].item_level["ndcg@10"] for c in (comparison, other))
    assert a.value == b.value
    assert a != b
    assert compare().to_json() == comparison.to_json()


def test_notes_say_which_seeds():
    assert joined_notes([(1, ("a", "b")), (2, ("a",))]) == ("a", "b (seed 1)")


def test_bad_cells_name_system_and_user():
    good = cells()
    store = good[0]
    twice = store.items.copy()
    twice[4, 1] = twice[4, 0]
    for given, match in [
        ([], "at least one cell"),
        ([store, store], "'store', seed 1 occurs twice"),
        ([replace(store, items=store.items[:, :5])], r"lists of shape \(\d+, 5\)"),
        ([replace(store, items=store.items[1:])], "lists of shape"),
        ([replace(store, items=twice)], "'store', seed 1: list of user 'u4', place 2 repeats"),
        ([replace(store, tuple_of=np.zeros(3, np.int32))], "code tuples of shape"),
    ]:
        with pytest.raises(DataError, match=match):
            compare(given)
    with pytest.raises(DataError, match="reference 'x'"):
        compare(reference="x", failures={})
    with pytest.raises(DataError, match="which this comparison excludes"):
        compare(config=CONFIG.model_copy(update={"exclude_history": True}))


def test_one_system_has_no_difference():
    values = {"a": {"recall@1": np.array([0.0, 1.0])}}
    assert differences(values, "a", Resampling()) == {}


def test_lists_longer_than_the_cut_offs_serve():
    longer = [replace(c, items=c.items) for c in cells()]
    config = EvaluationConfig(ks=(1, 10), bootstrap_samples=10)
    found = compare(longer, config=config).systems["store"]
    assert set(found.item_level) == {"recall@1", "recall@10", "ndcg@1", "ndcg@10", "mrr@10"}
    assert set(found.paper_formula) == {"paper_ndcg@1", "paper_ndcg@10"}  # lists of 20 are deep enough
