import warnings

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from storerec.codes import Clusterer, ClustererConfig, fitting
from storerec.codes import clusterer as module
from storerec.errors import DataError, StorerecWarning


def planted(n=300, v=2, width=24, k=6, noise=0.05, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, size=(n, v))
    centres = rng.normal(size=(v, k, width))
    x = centres[np.arange(v)[None], labels] + noise * rng.normal(size=(n, v, width))
    return x.astype(np.float32), labels


CONFIG = ClustererConfig(clusters=6, dims=5)


def test_recovers_planted_clusters_per_position():
    x, labels = planted()
    codes = Clusterer.fit(x, CONFIG, seed=1).assign(x)
    assert codes.dtype == np.int32
    for position in range(2):
        assert adjusted_rand_score(labels[:, position], codes[:, position]) > 0.99


def test_training_assignment_is_the_kmeans_fixpoint():
    # Labels of a converged k-means: each centre is the mean of the vectors assigned to it.
    x, _ = planted(noise=0.8)
    fitted = Clusterer.fit(x, ClustererConfig(clusters=6, dims=5, max_iter=300), seed=1)
    state, codes = fitted.arrays(), fitted.assign(x)
    for i in range(2):
        low = (x[:, i] - state[f"mean.{i}"]) @ state[f"components.{i}"].T
        means = np.stack([low[codes[:, i] == c].mean(axis=0) for c in range(fitted.sizes[i])])
        np.testing.assert_allclose(means, state[f"centres.{i}"], atol=0.05)


def test_same_seed_same_arrays_and_exact_round_trip():
    x, _ = planted(noise=1.0)
    first, again = Clusterer.fit(x, CONFIG, seed=3), Clusterer.fit(x, CONFIG, seed=3)
    back = Clusterer.from_arrays(first.arrays())
    for other in (again, back):
        assert first.arrays().keys() == other.arrays().keys()
        for name, array in first.arrays().items():
            np.testing.assert_array_equal(array, other.arrays()[name])
        np.testing.assert_array_equal(first.assign(x), other.assign(x))
    assert not np.array_equal(first.arrays()["centres.0"], Clusterer.fit(x, CONFIG, seed=4).arrays()["centres.0"])


def test_chunks_do_not_change_codes(monkeypatch):
    x, _ = planted(noise=1.0)
    fitted = Clusterer.fit(x, CONFIG, seed=0)
    whole, means = fitted.assign(x), fitted.cluster_means(x, fitted.assign(x))
    monkeypatch.setattr(module, "_CHUNK_VALUES", 24 * 7)
    np.testing.assert_array_equal(fitted.assign(x), whole)
    np.testing.assert_array_equal(fitted.assign(x[11:12]), whole[11:12])
    for a, b in zip(means, fitted.cluster_means(x, whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_distances_are_squared_and_padded():
    x, _ = planted(n=40)
    x[:, 1] = x[:3, 1][np.arange(40) % 3]  # three distinct vectors at position 1
    with pytest.warns(StorerecWarning, match="position 1.*gets 3 codes"):
        fitted = Clusterer.fit(x, CONFIG, seed=0)
    assert fitted.sizes == (6, 3)
    d, state = fitted.distances(x), fitted.arrays()
    assert d.shape == (40, 2, 6)
    assert d.dtype == np.float32
    assert np.isinf(d[:, 1, 3:]).all()
    low = (x[:, 0] - state["mean.0"]) @ state["components.0"].T
    brute = ((low[:, None] - state["centres.0"][None]) ** 2).sum(axis=-1)
    np.testing.assert_allclose(d[:, 0], brute, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(d.argmin(axis=2), fitted.assign(x))


def test_cluster_means_and_unused_codes():
    x, _ = planted()
    fitted = Clusterer.fit(x, CONFIG, seed=0)
    codes = fitted.assign(x)
    means = fitted.cluster_means(x, codes)
    np.testing.assert_allclose(means[0][2], x[codes[:, 0] == 2, 0].mean(axis=0), rtol=1e-4, atol=1e-5)
    few = codes[:, 0] == 0
    lonely = fitted.cluster_means(x[few], codes[few])
    state = fitted.arrays()
    back = state["mean.0"] + state["centres.0"][3] @ state["components.0"]
    np.testing.assert_allclose(lonely[0][3], back, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_fewer_items_than_clusters(n):
    x, _ = planted(n=n, noise=1.0)
    with pytest.warns(StorerecWarning):
        fitted = Clusterer.fit(x, CONFIG, seed=0)
    assert fitted.sizes == (n, n)
    assert all(len(set(fitted.assign(x)[:, i])) == n for i in range(2))


def test_equal_vectors_make_one_code_and_enough_make_no_warning():
    x = np.ones((20, 1, 8), dtype=np.float32)
    with pytest.warns(StorerecWarning):
        assert Clusterer.fit(x, CONFIG, seed=0).sizes == (1,)
    x, _ = planted()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Clusterer.fit(x, CONFIG, seed=0)


def test_sampled_fit_assigns_everyone():
    x, labels = planted()
    codes = Clusterer.fit(x, ClustererConfig(clusters=6, dims=5, sample=150), seed=0).assign(x)
    assert adjusted_rand_score(labels[:, 0], codes[:, 0]) > 0.99


def test_bad_vectors_are_named():
    x, _ = planted()
    x[17, 1, 3] = np.nan
    with pytest.raises(DataError, match="item row 17"):
        Clusterer.fit(x, CONFIG, seed=0)
    good, _ = planted()
    fitted = Clusterer.fit(good, CONFIG, seed=0)
    with pytest.raises(DataError, match="item row 17"):
        fitted.assign(x)
    for wrong in (good[:, :1], good[:, :, :5], good[:0], good[:, 0], good.astype(np.int64)):
        with pytest.raises(DataError):
            fitted.assign(wrong)
    with pytest.raises(DataError, match=r"mean\.0"):
        Clusterer.from_arrays({})
    with pytest.raises(DataError, match="lacks"):
        Clusterer.from_arrays({"mean.0": np.zeros(3)})


def _inertia(fitted, vectors):
    return float(fitted.distances(vectors)[:, 0].min(axis=1).sum())


def test_more_rows_than_the_sample_refine_its_centres(monkeypatch):
    vectors = np.random.default_rng(3).standard_normal((3000, 1, 6)).astype(np.float32)
    config = ClustererConfig(clusters=16, dims=6, sample=600)
    refined = _inertia(Clusterer.fit(vectors, config, 0), vectors)
    monkeypatch.setattr(fitting, "_refined", lambda fitted, x, rows: fitted)
    assert refined < 0.995 * _inertia(Clusterer.fit(vectors, config, 0), vectors)


def test_threads_do_not_change_the_centres(monkeypatch):
    vectors = np.random.default_rng(4).standard_normal((3000, 3, 6)).astype(np.float32)
    config = ClustererConfig(clusters=16, dims=6, sample=2000)
    several = Clusterer.fit(vectors, config, 0).arrays()
    monkeypatch.setattr(module, "usable_cores", lambda: 1)
    for name, array in Clusterer.fit(vectors, config, 0).arrays().items():
        np.testing.assert_array_equal(array, several[name])
