import numpy as np

from storerec.codes import Clusterer, ClustererConfig, CodebookFit


def fitted(seed=0):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((600, 2, 8)).astype(np.float32)
    return rng, vectors, Clusterer.fit(vectors, ClustererConfig(clusters=12, dims=6), seed=0)


def test_items_like_those_of_training_need_no_new_clusters():
    rng, vectors, clusterer = fitted()
    own = CodebookFit.of(clusterer.nearest_distances(vectors), clusterer.spread)
    assert own.items == 600
    np.testing.assert_allclose(own.far, 0.05, atol=0.005)
    np.testing.assert_allclose(own.ratio, 1.0, rtol=1e-6)
    other = CodebookFit.of(
        clusterer.nearest_distances(rng.standard_normal((300, 2, 8)).astype(np.float32)), clusterer.spread
    )
    assert not other.refit
    assert "no need" in other.verdict


def test_items_of_another_kind_are_told_by_their_position_and_few_of_them_are_not():
    _, vectors, clusterer = fitted()
    moved = vectors[:100].copy()
    moved[:, 1] *= 3
    fit = CodebookFit.of(clusterer.nearest_distances(moved), clusterer.spread)
    assert fit.refit
    assert "position 2" in fit.verdict
    assert fit.far[1] > 0.5 > fit.far[0]
    assert fit.to_json()["refit"] is True
    assert not CodebookFit.of(clusterer.nearest_distances(moved[:1]), clusterer.spread).refit


def test_distances_are_those_to_the_code_given():
    _, vectors, clusterer = fitted()
    whole = clusterer.distances(vectors)
    np.testing.assert_allclose(clusterer.nearest_distances(vectors), whole.min(axis=2), rtol=1e-5)
    again = Clusterer.from_arrays(clusterer.arrays())
    assert np.array_equal(again.spread, clusterer.spread)
    assert again.spread.shape == (2, 101)
    older = {name: array for name, array in clusterer.arrays().items() if not name.startswith("spread")}
    assert Clusterer.from_arrays(older).spread is None
    assert set(Clusterer.from_arrays(older).arrays()) == set(older)


def test_a_codebook_with_a_centre_for_each_item_tells_nothing():
    vectors = np.random.default_rng(2).standard_normal((20, 2, 8)).astype(np.float32)
    assert Clusterer.fit(vectors, ClustererConfig(clusters=20, dims=8), seed=0).spread is None
    assert Clusterer.fit(vectors, ClustererConfig(clusters=4, dims=8), seed=0).spread is not None
