"""Configuration of the residual-quantised autoencoder; apart from it, so that reading settings loads no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from storerec.config import Config


class RqVaeConfig(Config):
    """How item embeddings become residual codes, and how long the autoencoder trains."""

    levels: int = Field(4, ge=1, le=32)
    """Codes per item: each level quantises what the levels before it left over."""

    codes: int = Field(256, ge=1, le=65536)
    """Codes per level. Reduced, with a warning, where there are fewer items."""

    latent: int = Field(32, ge=1)
    """Width of the space that is quantised."""

    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (512, 256, 128)
    """Widths of the encoder's hidden layers; the decoder has them in reverse."""

    commitment: float = Field(0.25, ge=0)
    """Weight of the term that pulls the encoder to its codes."""

    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate of AdamW; it rises over the first 2% of the steps and falls to zero along a cosine."""

    weight_decay: float = Field(1e-4, ge=0)
    """Decoupled weight decay of encoder and decoder; codebooks have none."""

    batch_size: int = Field(256, ge=1)
    """Items per step. Small ones serve better for the same work (measured on MovieLens-100K)."""

    epochs: int = Field(300, ge=1)
    """Passes over the items at most."""

    max_steps: int | None = Field(10_000, ge=1)
    """Steps at most, over epochs if given; ends the training of large catalogues."""

    standardise: bool = True
    """Bring every input dimension to mean 0 and variance 1 first. Mean-pooled hidden states of language models have
    a few dimensions a hundred times larger than the rest, which would otherwise be all that is coded."""

    kmeans_start: bool = True
    """Start each level's codebook at the k-means centres of its residuals of a first batch; else near zero."""

    revive: bool = True
    """Put codes that no item took for ``revive_steps`` steps on residuals of random items."""

    revive_steps: int = Field(50, ge=1)
    """Steps between looks for unused codes."""

    uniform_last: bool = False
    """LC-Rec's uniform semantic mapping: the last level is assigned by optimal transport, which gives each code the
    same share of a batch, in training; ``assign_all`` spreads items that collide in the same way."""

    sinkhorn_epsilon: float = Field(0.003, gt=0)
    """Entropic regularisation of that transport, for distances brought to -1..1."""

    sinkhorn_iterations: int = Field(50, ge=1)
    """Sinkhorn-Knopp iterations."""
