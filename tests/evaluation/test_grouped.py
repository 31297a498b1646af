import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score, roc_auc_score

from storerec.errors import DataError
from storerec.evaluation.grouped import grouped_metrics, usable_groups


def random_groups(seed, groups=12, levels=4):
    """Groups of 0 to 9 candidates with few distinct scores, so many ties; some groups lack a label."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 10, groups)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    n = int(offsets[-1])
    return rng.integers(0, levels, n) / 8, rng.random(n) < 0.4, offsets


def mind_mrr(labels, scores):
    """The definition of MIND's official evaluation, for scores without ties."""
    ordered = labels[np.argsort(scores)[::-1]]
    return np.sum(ordered / (np.arange(len(ordered)) + 1)) / np.sum(ordered)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_agrees_with_scikit_learn_ties_included(seed):
    scores, labels, offsets = random_groups(seed)
    found, usable = grouped_metrics(scores, labels, offsets), usable_groups(labels, offsets)
    pieces = [(scores[a:b], labels[a:b]) for a, b in itertools.pairwise(offsets)]
    assert usable.tolist() == [bool(y.any() and not y.all()) for _, y in pieces]
    for i, (s, y) in enumerate(piece for piece, ok in zip(pieces, usable, strict=True) if ok):
        assert found["auc"][i] == pytest.approx(roc_auc_score(y, s))
        for k in (1, 5):
            assert found[f"ndcg@{k}"][i] == pytest.approx(ndcg_score([y], [s], k=k))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_mrr_is_the_mean_over_all_orders_of_ties(seed):
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, 3, 5).astype(float), rng.permutation([True, True, False, False, False])
    orders = [np.array(o) for o in itertools.permutations(range(5)) if (np.diff(scores[list(o)]) >= 0).all()]
    # Ascending places are scores without ties that keep the order of the real ones.
    expected = np.mean([mind_mrr(labels[o], np.arange(5)) for o in orders])
    assert grouped_metrics(scores, labels, np.array([0, 5]))["mrr"] == pytest.approx(expected)


def test_without_ties_it_is_minds_definition():
    rng = np.random.default_rng(0)
    labels, scores = rng.random(40) < 0.3, rng.permutation(40) / 40
    offsets = np.array([0, 15, 40])
    expected = [mind_mrr(labels[a:b], scores[a:b]) for a, b in itertools.pairwise(offsets)]
    np.testing.assert_allclose(grouped_metrics(scores, labels, offsets)["mrr"], expected)


def test_by_hand():
    labels = np.array([True, False, True, False])
    found = grouped_metrics(np.array([4.0, 3.0, 2.0, 1.0]), labels, np.array([0, 4]))
    assert found["auc"] == pytest.approx(3 / 4)
    assert found["mrr"] == pytest.approx((1 + 1 / 3) / 2)
    assert found["ndcg@1"] == pytest.approx(1)
    assert found["ndcg@5"] == pytest.approx((1 + 1 / 2) / (1 + 1 / np.log2(3)))


def test_constant_scores_are_worth_what_random_ones_are():
    labels = np.tile([True, False, False], 3000)
    offsets = np.arange(0, 9001, 3)
    constant = grouped_metrics(np.zeros(9000), labels, offsets)
    drawn = grouped_metrics(np.random.default_rng(0).random(9000), labels, offsets)
    assert (constant["auc"] == 0.5).all()
    for metric, values in constant.items():
        assert values.mean() == pytest.approx(drawn[metric].mean(), abs=0.03)


def test_order_within_a_group_and_other_groups_do_not_matter():
    scores, labels, offsets = random_groups(3, groups=6)
    found = grouped_metrics(scores, labels, offsets)
    back = np.concatenate([np.arange(a, b)[::-1] for a, b in itertools.pairwise(offsets)])
    again = grouped_metrics(scores[back], labels[back], offsets)
    alone = grouped_metrics(scores[offsets[5] :], labels[offsets[5] :], offsets[5:] - offsets[5])
    for metric, values in found.items():
        np.testing.assert_allclose(again[metric], values)
        np.testing.assert_allclose(alone[metric], values[len(values) - len(alone[metric]) :])


def test_integers_serve_as_scores():
    found = grouped_metrics(np.array([0, 3], dtype=np.uint8), np.array([False, True]), np.array([0, 2]))
    assert found["auc"].tolist() == [1]


def test_nothing_usable_gives_empty_arrays():
    found = grouped_metrics(np.zeros(2), np.array([True, True]), np.array([0, 1, 2]))
    assert {len(v) for v in found.values()} == {0}


def test_bad_input():
    labels = np.array([True, False])
    with pytest.raises(DataError, match="group 1, candidate 0: score nan"):
        grouped_metrics(np.array([1.0, np.nan]), labels, np.array([0, 1, 2]))
    for scores, y, offsets in [
        (np.zeros(3), labels, np.array([0, 2])),
        (np.zeros(2), labels.astype(int), np.array([0, 2])),
        (np.zeros(2), labels, np.array([0, 1])),
        (np.zeros(2), labels, np.array([0, 2, 1, 2])),
        (np.zeros(2), labels, np.array([1, 2])),
    ]:
        with pytest.raises(DataError, match=r"fit|divide"):
            grouped_metrics(scores, y, offsets)
