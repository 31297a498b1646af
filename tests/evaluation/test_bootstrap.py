import numpy as np
import pytest
from scipy import stats

from storerec.errors import DataError
from storerec.evaluation import bootstrap as module
from storerec.evaluation import bootstrap_means, paired_difference

OPTIONS = {"samples": 1000, "confidence": 0.95, "seed": 0}


def test_agrees_with_scipy():
    values = np.random.default_rng(0).exponential(size=(1, 400))
    ours = bootstrap_means(values, samples=4000, confidence=0.9, seed=1)[0]
    theirs = stats.bootstrap(
        (values[0],), np.mean, n_resamples=4000, confidence_level=0.9, method="percentile", random_state=2
    ).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    width = theirs.high - theirs.low
    assert abs(ours.low - theirs.low) < 0.05 * width
    assert abs(ours.high - theirs.high) < 0.05 * width


def test_interval_covers_a_bernoulli_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    worlds = (rng.random((300, 500)) < 0.2).astype(float)  # each row is one survey of 500 users
    found = bootstrap_means(worlds, **OPTIONS | {"samples": 500})
    share = np.mean([i.low <= 0.2 <= i.high for i in found])
    assert 0.90 <= share <= 0.99


def test_paired_differences_are_tighter_than_unpaired_and_seeded():
    rng = np.random.default_rng(0)
    first = rng.random((1, 300))
    second = first - 0.01 + 0.01 * rng.random((1, 300))
    found = paired_difference(first, second, **OPTIONS)[0]
    assert 0 < found.low < found.value < found.high < 0.01
    assert paired_difference(first, first, **OPTIONS)[0].model_dump() == {"value": 0, "low": 0, "high": 0}
    assert paired_difference(first, second, **OPTIONS)[0] == found
    assert paired_difference(first, second, **OPTIONS | {"seed": 1})[0] != found


def test_chunks_bound_memory_and_change_nothing(monkeypatch):
    values = np.random.default_rng(0).random((3, 50))
    whole = bootstrap_means(values, **OPTIONS)
    monkeypatch.setattr(module, "_CELLS", 120)
    for a, b in zip(whole, bootstrap_means(values, **OPTIONS), strict=True):
        assert a.model_dump() == pytest.approx(b.model_dump())


def test_one_user_and_no_user():
    only = bootstrap_means(np.array([[0.5]]), **OPTIONS)[0]
    assert (only.low, only.value, only.high) == (0.5, 0.5, 0.5)
    with pytest.raises(DataError):
        bootstrap_means(np.zeros((1, 0)), **OPTIONS)
    with pytest.raises(DataError):
        paired_difference(np.zeros((1, 2)), np.zeros((1, 3)), **OPTIONS)
