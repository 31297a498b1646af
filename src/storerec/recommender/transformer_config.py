"""Configuration of the small Transformer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from storerec.config import Config
from storerec.llm.training_config import TrainingConfig
from storerec.recommender.config import Normaliser


class TransformerConfig(Config):
    """The encoder-decoder of TIGER (Rajput et al., 2023, arXiv 2305.05065): sizes as there, and what is trained."""

    max_history: int = Field(default=20, ge=1)
    """Most recent items of a user that are read (TIGER: 20)."""

    layers: int = Field(default=4, ge=1)
    """Layers of the encoder, and of the decoder (TIGER: 4)."""

    heads: int = Field(default=6, ge=1)
    """Attention heads (TIGER: 6)."""

    head_width: int = Field(default=64, ge=1)
    """Width of a head (TIGER: 64)."""

    width: int = Field(default=128, ge=1)
    """Width of the vectors between layers (TIGER: 128)."""

    feed_forward: int = Field(default=1024, ge=1)
    """Width inside the feed-forward maps (TIGER: 1024)."""

    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout in training (TIGER: 0.1)."""

    attention_dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout of attention's weights; none takes ``dropout``, as T5 does. On a CPU its masks were 44% of an epoch."""

    encoder: Literal["causal", "bidirectional"] = "causal"
    """bidirectional: T5's encoder, which reads a history anew for each target. causal: a code sees its own and
    earlier items only, so that one reading of a window serves all its items as targets, at a tenth of the cost per
    target."""

    recency: bool = True
    """Give the decoder's attention to the history a learned bias by how many items back a code lies. T5 has none
    there; a causal encoder cannot know how far from the end it is, and needs it."""

    tie_codes: bool = True
    """One row per code for input and output, as in T5."""

    normaliser: Normaliser = "children"
    """Over what probabilities are normalised in training: the codes that continue an existing item, the position's
    codes, or all codes of all positions together."""

    loss_positions: Literal["all", "last"] = "all"
    """all: every item of a training sequence is a target, given the items before it. last: only the last one of each
    user."""

    draw: Literal["all", "one"] = "one"
    """With the bidirectional encoder and all loss positions: all items are targets in every epoch, or one random item
    of each ``max_history`` in a row, another each epoch. With "one", an epoch is short and validations are frequent."""

    jitter: bool = True
    """Cut histories into windows at other places each epoch (causal encoder)."""

    batch_size: int = Field(default=64, ge=1)
    """Windows (causal encoder), or single targets with their histories (bidirectional), per optimizer step."""

    training: TrainingConfig = TrainingConfig(learning_rate=1e-3, epochs=100, patience=10)
    """How long and how fast to train."""

    validation_users: int | None = None
    """Validate on a random sample of this many validation users; none takes all."""

    validation_excludes_history: bool = False
    """Whether validation's lists leave out the user's own history. Take what the evaluation does."""

    validation_metric: Literal["ndcg@10", "recall@10"] = "ndcg@10"
    """Item-level metric that decides on the best weights and on early stopping."""
