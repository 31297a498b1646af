import itertools

import numpy as np
import pytest
from scipy import stats

from storerec.errors import DataError
from storerec.evaluation import significance as module
from storerec.evaluation.significance import holm, sign_flip_p


def enumerated(d):
    """All sign patterns, one by one."""
    sums = [
        abs(sum(s * x for s, x in zip(signs, d, strict=True))) for signs in itertools.product((1, -1), repeat=len(d))
    ]
    return np.mean([s >= abs(sum(d)) - 1e-12 for s in sums])


def test_small_samples_are_exact():
    rng = np.random.default_rng(0)
    rows = np.stack([rng.normal(size=8), rng.integers(-1, 2, 8), rng.random(8), np.zeros(8)])
    found = sign_flip_p(rows, flips=256)
    np.testing.assert_allclose(found, [enumerated(row.tolist()) for row in rows])
    assert found[2] == 2 / 256  # all differences of one sign
    assert found[3] == 1


def test_exact_agrees_with_scipy():
    a, b = np.random.default_rng(1).random((2, 9))
    theirs = stats.permutation_test((a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p((a - b)[None])[0] == pytest.approx(theirs.pvalue)


def test_random_flips_come_near_the_exact_value():
    # Shifts chosen so that p runs from about .5 to about .005.
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(4, 12)) + np.array([[0.2], [0.4], [0.6], [0.9]])
    exact, drawn = sign_flip_p(rows, flips=4096), sign_flip_p(rows, flips=4095, seed=3)
    np.testing.assert_allclose(drawn, exact, atol=4 * 0.5 / np.sqrt(4095))
    assert (drawn != exact).any()


def test_ties_of_rounded_sums_count_as_ties():
    # Averages over three seeds are thirds; sums of them in another order differ in the last digit only.
    d = np.array([1 / 3, 2 / 3, -1 / 3, 1 / 3, 1, -2 / 3])
    whole = np.rint(d * 3)
    assert sign_flip_p(d[None])[0] == sign_flip_p(whole[None])[0] == enumerated(whole.tolist())


def test_null_data_give_uniform_p():
    rng = np.random.default_rng(4)
    p = sign_flip_p(rng.normal(size=(400, 60)), flips=999, seed=5)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert 0.02 < (p < 0.05).mean() < 0.09


def test_a_real_difference_is_found_and_never_gets_zero():
    rows = np.random.default_rng(6).normal(0.5, 1, size=(1, 500))
    assert sign_flip_p(rows, flips=999)[0] == 1 / 1000


def test_chunks_change_nothing_and_seeds_do(monkeypatch):
    rows = np.random.default_rng(7).normal(size=(2, 40))
    whole = sign_flip_p(rows, flips=1000, seed=1)
    assert (sign_flip_p(rows, flips=1000, seed=2) != whole).any()
    np.testing.assert_array_equal(sign_flip_p(rows, flips=1000, seed=1), whole)
    exact = sign_flip_p(rows[:, :10], flips=1024)
    monkeypatch.setattr(module, "_CELLS", 100)
    np.testing.assert_array_equal(sign_flip_p(rows[:, :10], flips=1024), exact)


def test_users_without_a_difference_decide_nothing():
    rows = np.random.default_rng(8).normal(size=(1, 9))
    padded = np.concatenate([rows, np.zeros((1, 5000))], axis=1)
    assert sign_flip_p(padded)[0] == sign_flip_p(rows)[0]


def test_holm_by_hand():
    # Sorted .01 .02 .03 .04 times 4 3 2 1: .04 .06 .06 .04, never falling.
    np.testing.assert_allclose(holm(np.array([0.04, 0.01, 0.03, 0.02])), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm(np.array([0.5, 0.6])), [1, 1])
    np.testing.assert_allclose(holm(np.array([0.2])), [0.2])
    assert holm(np.array([])).shape == (0,)


def test_bad_input():
    for bad in (np.zeros(3), np.zeros((1, 0)), np.array([[np.nan]])):
        with pytest.raises(DataError):
            sign_flip_p(bad)
    with pytest.raises(DataError):
        sign_flip_p(np.zeros((1, 2)), flips=0)
    with pytest.raises(DataError):
        holm(np.array([0.5, 1.5]))
