"""Where the rows of a recommender start: those of codes, and of items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from storerec.data.histories import Histories
from storerec.llm.backbone import Backbone
from storerec.recommender.config import RecommenderConfig

_NEARBY_DIMS = 64


def initial_rows(
    sizes: tuple[int, ...],
    means: Sequence[np.ndarray] | None,
    backbone: Backbone,
    config: RecommenderConfig,
    seed: int,
) -> np.ndarray:
    """(codes of all positions, width) float32 rows at the word embeddings' RMS.

    The scale decides: rows at the raw scale of the outputs drown what attention adds, and the model then ignores
    the history (measured on ML-100K: docs/method.md, section 3).
    """
    rng, rms = np.random.default_rng([seed, 1]), backbone.word_rms()
    rows = []
    for position, size in enumerate(sizes):
        drawn = rng.standard_normal((size, backbone.width)) * rms
        # a disambiguating position has no cluster means: it is drawn
        if config.code_init == "cluster_mean" and means is not None and position < len(means):
            mean = np.asarray(means[position], np.float64)
            mean = mean - mean.mean(0) if config.centre_codes and size > 1 else mean
            scale = np.sqrt(np.mean(mean**2))
            drawn = mean * (rms / scale) if scale > 0 else drawn
        rows.append(drawn)
    return np.concatenate(rows).astype(np.float32)


def nearby_rows(
    histories: Histories, n_items: int, backbone: Backbone, seed: int, *, dims: int | None = None
) -> np.ndarray:
    """(items, width) float32 rows from items' neighbours in ``histories``, at the word embeddings' RMS.

    A random rotation lays their ``dims`` dimensions (64 unless told) across the width; items without neighbours have
    zeros.
    """
    from storerec.recommender.cooccurrence import cooccurrence_vectors  # scikit-learn, which trained rows do without

    dims = min(dims or _NEARBY_DIMS, backbone.width)
    vectors = cooccurrence_vectors(histories, n_items, dims, seed=seed)
    drawn = np.random.default_rng([seed, 5]).standard_normal((backbone.width, dims))
    rows = vectors @ np.linalg.qr(drawn)[0].T.astype(np.float32)  # (items, width)
    filled = np.abs(rows).sum(1) > 0
    scale = np.sqrt(np.mean(rows[filled].astype(np.float64) ** 2)) if filled.any() else 0.0
    return (rows * (backbone.word_rms() / scale if scale > 0 else 0.0)).astype(np.float32)
