"""Items' vectors from their neighbours in histories."""

import numpy as np

from storerec.data.histories import Histories
from storerec.recommender.cooccurrence import cooccurrence_vectors


def of(sequences):
    offsets = np.cumsum([0] + [len(sequence) for sequence in sequences]).astype(np.int64)
    flat = np.concatenate([np.asarray(sequence, np.int32) for sequence in sequences])
    return Histories.from_arrays([f"u{u}" for u in range(len(sequences))], offsets, flat)


def slow_information(sequences, items):
    """Positive pointwise mutual information with word2vec's smoothing, pair by pair."""
    near = np.zeros((items, items))
    for sequence in sequences:
        for i, first in enumerate(sequence):
            for j in range(i + 1, min(i + 11, len(sequence))):
                near[first, sequence[j]] += (j - i) ** -0.5
                near[sequence[j], first] += (j - i) ** -0.5
    total = near.sum(1)
    context = total**0.75 / (total**0.75).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log(near / (total[:, None] * context[None]))
    return np.where(near > 0, np.maximum(found, 0), 0)


def test_they_are_the_singular_vectors_of_mutual_information():
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, 12, rng.integers(1, 30)) for _ in range(8)]
    values = np.linalg.svd(slow_information(sequences, 12), compute_uv=False)
    vectors = cooccurrence_vectors(of(sequences), 12, 5)
    # left vectors are orthonormal, so what is left of the products are the singular values
    np.testing.assert_allclose(vectors.T @ vectors, np.diag(values[:5]), atol=1e-3 * values[0])


def test_items_that_stand_together_are_alike_and_strangers_are_zero():
    rng = np.random.default_rng(1)
    sequences = [rng.permutation(6) + 6 * (user % 2) for user in range(40)]
    vectors = cooccurrence_vectors(of([*sequences, [13]]), 14, 4)
    assert not vectors[12:].any()  # 12 is in no history, 13 beside nothing
    unit = vectors[:12] / np.linalg.norm(vectors[:12], axis=1, keepdims=True)
    alike = unit @ unit.T
    assert alike[:6, :6].min() > 0.2 + np.abs(alike[:6, 6:]).max()


def test_more_dimensions_than_items_and_no_neighbours_at_all():
    vectors = cooccurrence_vectors(of([[0, 1, 2]]), 3, 8)
    assert vectors.shape == (3, 8)
    assert np.isfinite(vectors).all()
    assert vectors.any()
    assert not cooccurrence_vectors(of([[0], [1], []]), 3, 8).any()
