"""Vectors of items from what stands near them in histories: where items' own rows can start."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from sklearn.decomposition import TruncatedSVD

from storerec.data.histories import Histories

_WINDOW = 10
"""Items to each side that count as near; the n-th counts 1 / sqrt(n)."""

_SMOOTHING = 0.75
"""Power of the context's frequency (word2vec's): else rare contexts give the largest values."""


def cooccurrence_vectors(histories: Histories, n_items: int, dims: int, *, seed: int = 0) -> NDArray[np.float32]:
    """(n_items, dims) vectors whose products approximate how much more often two items stand near than by chance.

    The positive pointwise mutual information of items within ten of each other in a history, factorized by a truncated
    SVD, as Levy and Goldberg (2014) show skip-gram to do in passing (item2vec: Barkan and Koenigstein, 2016). An item
    that stands near none has zeros, and so have dimensions beyond the rank.
    """
    near = _near(histories, n_items)
    total = near.sum(axis=1)  # (items,)
    vectors = np.zeros((n_items, dims), np.float32)
    seen = np.flatnonzero(total > 0)
    if len(seen) < 2:
        return vectors
    context = total**_SMOOTHING / (total**_SMOOTHING).sum()
    pairs = near.tocoo()
    rows, columns = pairs.coords
    information = np.log(pairs.data / (total[rows] * context[columns]))
    positive = information > 0
    matrix = csr_array((information[positive], (rows[positive], columns[positive])), shape=near.shape)
    rank = min(dims, len(seen) - 1)
    reduced = TruncatedSVD(rank, random_state=seed)
    scaled = reduced.fit_transform(matrix)  # (items, rank): left vectors times singular values
    values = reduced.singular_values_
    kept = values > 1e-6 * max(float(values.max(initial=0.0)), 1e-12)
    vectors[:, :rank][:, kept] = scaled[:, kept] / np.sqrt(values[kept])
    return vectors


def _near(histories: Histories, n_items: int) -> csr_array:
    """How often two items stand near each other, the nearer the more: (items, items), symmetric."""
    items = histories.items.astype(np.int64)
    user = np.repeat(np.arange(len(histories)), histories.lengths)
    near = csr_array((n_items, n_items), dtype=np.float64)
    for distance in range(1, _WINDOW + 1):
        together = user[distance:] == user[:-distance]
        first, second = items[:-distance][together], items[distance:][together]
        weight = np.full(len(first), distance**-0.5)
        near = near + coo_array((weight, (first, second)), shape=(n_items, n_items)).tocsr()
    return near + near.T
