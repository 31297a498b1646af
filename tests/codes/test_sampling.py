import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storerec.codes import Clusterer, ClustererConfig
from storerec.codes.drawn import ArrayVectors, Drawn
from storerec.codes.moments import Moments
from storerec.codes.sampling_error import SamplingError
from storerec.codes.sums import ChunkSums, ClusterSums
from storerec.errors import DataError

CONFIG = ClustererConfig(clusters=8, dims=5, sample=150, max_iter=30)


def drawn_vectors(n=2000, v=2, width=12, seed=0):
    return np.random.default_rng(seed).standard_normal((n, v, width)).astype(np.float32)


class Counted:
    """Vectors that notes which rows were asked for."""

    def __init__(self, vectors):
        self.vectors, self.shape, self.asked = vectors, vectors.shape, []

    def take(self, rows, position):
        assert (np.diff(rows) > 0).all()
        self.asked.append(rows)
        return self.vectors[rows, position]


def same_arrays(one, other):
    assert one.arrays().keys() == other.arrays().keys()
    for name, array in one.arrays().items():
        np.testing.assert_array_equal(array, other.arrays()[name])


@pytest.mark.parametrize("n", [100, 400, 2000])
def test_a_fit_asks_for_drawn_rows_only(n):
    x = drawn_vectors(n)
    whole, source = Clusterer.fit(x, CONFIG, 3), Counted(x)
    same_arrays(Clusterer.fit(source, CONFIG, 3), whole)
    drawn = Drawn.of(n, 2, CONFIG, 3)
    assert len(drawn.rows) == min(n, 150)
    assert (drawn.more is None) == (n <= 150)
    assert len(drawn.last) == min(n, 750)
    np.testing.assert_array_equal(np.unique(np.concatenate(source.asked)), drawn.all_rows)
    only = ArrayVectors(x[drawn.all_rows], drawn.all_rows, n)
    assert only.shape == x.shape
    same_arrays(Clusterer.fit(only, CONFIG, 3), whole)
    if n > 150:
        with pytest.raises(DataError, match=f"item row {drawn.rows[0]} was drawn"):
            Clusterer.fit(ArrayVectors(x[drawn.rows[1:]], drawn.rows[1:], n), CONFIG, 3)


def test_last_rows_are_found_within_chunks():
    drawn = Drawn.of(2000, 2, CONFIG, 3)
    found = np.concatenate([drawn.is_last(first, min(333, 2000 - first)) for first in range(0, 2000, 333)])
    np.testing.assert_array_equal(np.flatnonzero(found), drawn.last)


def test_bad_rows_are_named_as_the_catalogue_counts_them():
    x = drawn_vectors()
    row = int(Drawn.of(2000, 2, CONFIG, 3).more[-1])
    x[row, 1, 2] = np.inf
    with pytest.raises(DataError, match=f"item row {row}:"):
        Clusterer.fit(ArrayVectors(x), CONFIG, 3)
    fitted = Clusterer.fit(drawn_vectors(), CONFIG, 3)
    with pytest.raises(DataError, match=f"item row {row}:"):
        fitted.assign(x[row - 2 :], first=row - 2)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 13), st.integers(0, 10**6))
def test_sums_of_chunks_are_those_of_all(n, step, seed):
    rng = np.random.default_rng(seed)
    x, sizes = rng.standard_normal((n, 2, 3)).astype(np.float32), (4, 70)
    codes = np.stack([rng.integers(0, size, n) for size in sizes], axis=1)
    sums = ClusterSums(sizes, 3)
    for start in range(0, n, step):
        sums.add(ChunkSums.of(x[start : start + step], codes[start : start + step], sizes))
    empty = [np.full((size, 3), 7.0) for size in sizes]
    for position, mean in enumerate(sums.means(empty)):
        np.testing.assert_array_equal(sums.counts[position], np.bincount(codes[:, position], minlength=sizes[position]))
        for code in range(sizes[position]):
            own = x[codes[:, position] == code, position].astype(np.float64)
            expected = own.mean(axis=0) if len(own) else empty[position][code]
            np.testing.assert_allclose(mean[code], expected, rtol=1e-5, atol=1e-6)


def test_sums_of_an_appended_position_and_of_other_codes():
    x = drawn_vectors(20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = Clusterer.fit(x, CONFIG, 0)
    codes = (fitted.assign(x) + 1) % fitted.sizes[0]  # any codes, not the nearest ones
    sums = ClusterSums(fitted.sizes, fitted.width)
    sums.add(ChunkSums.of(x, np.concatenate([codes, np.full((20, 1), 99)], axis=1), fitted.sizes))
    for one, other in zip(sums.means(fitted.back()), fitted.cluster_means(x, codes), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(DataError, match="position 1: codes outside"):
        ChunkSums.of(x, codes + np.array([0, 5]), fitted.sizes)
    with pytest.raises(DataError, match="shape"):
        ChunkSums.of(x, codes[:, :1], fitted.sizes)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(0, 10**6))
def test_moments_of_chunks_are_those_of_all(lengths, seed):
    rng = np.random.default_rng(seed)
    parts = [1e4 + rng.random((length, 3)) for length in lengths]
    joined = Moments.of(parts[0])
    for part in parts[1:]:
        joined = joined.joined(Moments.of(part))
    whole = np.concatenate(parts)
    assert joined.count == len(whole)
    if len(whole):
        np.testing.assert_allclose(joined.mean, whole.mean(axis=0), rtol=1e-12)
    if len(whole) > 1:
        np.testing.assert_allclose(joined.deviation, whole.std(axis=0, ddof=1), rtol=1e-7)


def stated(fitted, x, config, seed, chunk):
    """As a driver does it: chunk by chunk."""
    drawn = Drawn.of(len(x), x.shape[1], config, seed)
    every, last = Moments.of(np.empty((0, x.shape[1]))), Moments.of(np.empty((0, x.shape[1])))
    for first in range(0, len(x), chunk):
        least = fitted.nearest(x[first : first + chunk], first=first)[1]
        every = every.joined(Moments.of(least))
        last = last.joined(Moments.of(least[drawn.is_last(first, len(least))]))
    return SamplingError.of(every, last, len(drawn.rows)), drawn


def test_the_stated_error_is_that_of_a_direct_computation():
    x = drawn_vectors()
    fitted = Clusterer.fit(x, CONFIG, 3)
    error, drawn = stated(fitted, x, CONFIG, 3, 123)
    assert (error.items, error.sample, error.fitted_items) == (2000, 150, 750)
    least = fitted.distances(x).min(axis=2).astype(np.float64)
    for position, one in enumerate(error.positions):
        own = least[drawn.last, position]
        assert one.all_items == pytest.approx(least[:, position].mean(), rel=1e-6)
        assert one.fitted_items == pytest.approx(own.mean(), rel=1e-6)
        assert one.excess == pytest.approx(least[:, position].mean() / own.mean() - 1, abs=1e-6)
        half = 1.96 * own.std(ddof=1) / np.sqrt(750) * np.sqrt(1 - 750 / 2000)
        assert one.high - one.fitted_items == pytest.approx(half, rel=1e-4)
        assert one.fitted_items - one.low == pytest.approx(half, rel=1e-4)
        assert 0 <= one.loss_limit <= 1
    told = error.to_json()
    assert "central limit theorem" in told.pop("method")
    assert SamplingError.parse(told) == error
    assert error.worst.loss_limit == max(one.loss_limit for one in error.positions)


def test_a_fit_on_all_items_has_no_error():
    x = drawn_vectors(700)
    error, _ = stated(Clusterer.fit(x, CONFIG, 3), x, CONFIG, 3, 100)
    assert error.fitted_items == 700
    for one in error.positions:
        assert one.low == one.high == one.fitted_items
        assert one.excess == pytest.approx(0, abs=1e-12)
        assert one.loss_limit == pytest.approx(0, abs=1e-12)


def test_equal_items_have_no_excess():
    zero, some = Moments.of(np.zeros((5, 1))), Moments.of(np.array([[0.0], [1.0]]))
    assert SamplingError.of(zero, zero, 5).positions[0].excess == 0
    assert SamplingError.of(some, Moments.of(np.zeros((1, 1))), 1).positions[0].excess is None


def test_the_interval_covers_all_items_19_times_of_20():
    """Centres that do not depend on the sample, distances of a skewed distribution, a third of the items drawn."""
    rng, covered = np.random.default_rng(0), 0
    distances = rng.gamma(2.0, 3.0, (3000, 1))
    every = Moments.of(distances)
    for _ in range(2000):
        part = Moments.of(distances[rng.choice(3000, 1000, replace=False)])
        one = SamplingError.of(every, part, 1000).positions[0]
        covered += one.low <= one.all_items <= one.high
    # 2,000 draws of .95 have a standard deviation of .0049
    assert 0.93 < covered / 2000 < 0.97


def test_the_limit_of_the_loss_holds():
    """Against centres fitted on all items, over repetitions; the limit may fail 1 time of 20."""
    x = drawn_vectors(3000, v=1, width=4)
    every = ClustererConfig(clusters=8, dims=4, sample=3000, max_iter=300, n_init=10)
    best = Clusterer.fit(x, every, 0).nearest_distances(x).mean()
    held = 0
    for seed in range(20):
        config = ClustererConfig(clusters=8, dims=4, sample=60, max_iter=300, n_init=10)
        fitted = Clusterer.fit(x, config, seed)
        one = stated(fitted, x, config, seed, 1000)[0].positions[0]
        held += 1 - best / one.all_items <= one.loss_limit
        assert one.excess > 0  # 300 rows for 8 centres: too good on the sample
    assert held >= 17
