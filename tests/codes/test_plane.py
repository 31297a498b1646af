import numpy as np

from storerec.codes import Clusterer, ClustererConfig
from storerec.codes.plane import Plane


def test_places_are_the_principal_plane_of_the_items_centres():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((500, 2, 6)).astype(np.float32) * np.array([5, 3, 1, 1, 1, 1], np.float32)
    clusterer = Clusterer.fit(vectors, ClustererConfig(clusters=9, dims=4), seed=0)
    codes = clusterer.assign(vectors)
    places = Plane.fit(clusterer, codes).of(codes)
    assert places.shape == (500, 2)
    whole = np.concatenate([rows[codes[:, i]] for i, rows in enumerate(clusterer.centres)], axis=1)
    whole = whole - whole.mean(0)
    singular = np.linalg.svd(whole, compute_uv=False)[:2]
    np.testing.assert_allclose(np.sort(np.linalg.norm(places, axis=0))[::-1], singular, rtol=1e-4)
    np.testing.assert_allclose(places.mean(0), 0, atol=1e-4)
    more = np.concatenate([codes, rng.integers(0, 3, (500, 1)).astype(np.int32)], axis=1)  # a position of numbers
    assert np.array_equal(Plane.fit(clusterer, more).of(more), places)


def test_one_dimension_and_one_item_have_a_place():
    clusterer = Clusterer.fit(np.arange(8.0).reshape(8, 1, 1), ClustererConfig(clusters=3, dims=1), seed=0)
    codes = clusterer.assign(np.arange(8.0).reshape(8, 1, 1))
    places = Plane.fit(clusterer, codes).of(codes)
    assert np.isfinite(places).all()
    assert (places[:, 1] == 0).all()
    alone = Plane.fit(clusterer, codes[:1]).of(codes[:1])
    assert np.isfinite(alone).all()
