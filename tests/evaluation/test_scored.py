import json

import numpy as np
import pytest

from storerec.errors import DataError
from storerec.evaluation.grouped import grouped_metrics
from storerec.evaluation.score_comparison import ScoreComparison
from storerec.evaluation.scored import ScoreCell
from tests.evaluation.comparisons import ODD, compare_judged, judged


@pytest.fixture(scope="module")
def comparison():
    return compare_judged()


def test_means_are_over_groups_and_seeds():
    labels, offsets = judged()
    rng = np.random.default_rng(5)
    given = [ScoreCell("store", s, rng.random(len(labels)), 1.0) for s in (1, 2)]
    found = compare_judged(cells=given).systems["store"]
    by_seed = [grouped_metrics(c.scores, labels, offsets) for c in given]
    for metric in ("auc", "mrr", "ndcg@1", "ndcg@5"):
        means = [v[metric].mean() for v in by_seed]
        assert found.metrics[metric].value == pytest.approx(np.mean(means))
        assert found.seed_means[metric] == pytest.approx(tuple(means))


def test_groups_without_both_labels_are_dropped_and_counted(comparison):
    assert (comparison.groups, comparison.dropped) == (80, 1)
    assert (comparison.candidates, comparison.positives) == (400, 160)


def test_wins_and_losses_are_tested(comparison):
    win, loss = (comparison.differences[name]["auc"] for name in ("zero-shot", ODD))
    assert win.value > 0 > loss.value
    assert win.p_adjusted < 0.05
    assert loss.p_adjusted < 0.05
    assert win.p <= win.p_adjusted


def test_json_round_trip(comparison):
    text = json.dumps(comparison.to_json(), allow_nan=False)
    assert ScoreComparison.from_json(json.loads(text)) == comparison
    assert comparison.systems[ODD].seconds == (None,)


def test_bad_input():
    labels, _ = judged()
    n = len(labels)
    for cells, match in [
        ([], "at least one cell"),
        ([ScoreCell("store", 1, np.zeros(n), 1.0)] * 2, "occurs twice"),
        ([ScoreCell("store", 1, np.zeros(3), 1.0)], "'store', seed 1: .*do not fit"),
        ([ScoreCell("store", 1, np.full(n, np.inf), 1.0)], "group 0, candidate 0: score inf"),
    ]:
        with pytest.raises(DataError, match=match):
            compare_judged(cells=cells)
    with pytest.raises(DataError, match="reference 'x'"):
        compare_judged(reference="x", failures={})
