"""Settings of the clusterer."""

from __future__ import annotations

from pydantic import Field

from storerec.config import Config


class ClustererConfig(Config):
    """How dense tokens become codes; the defaults are the paper's."""

    clusters: int = Field(256, ge=1, le=65536)
    """Codes per position (k). Reduced, with a warning, where a position has fewer distinct vectors."""

    dims: int = Field(32, ge=1)
    """Dimensions kept by the PCA before k-means; at most items - 1 and the vector width are used."""

    n_init: int = Field(3, ge=1)
    """k-means++ starts per position; the one with the smallest inertia is kept."""

    max_iter: int = Field(100, ge=1)
    """Lloyd iterations per start."""

    sample: int = Field(100_000, ge=2)
    """Most items used to fit; larger catalogues are sampled evenly at random, and the last few iterations run over up
    to five times as many. All items are then assigned."""
