"""SASRec's network: causal self-attention over item vectors, trained by softmax over the whole catalogue.

Source: Kang and McAuley, 2018, "Self-Attentive Sequential Recommendation" (arXiv 1808.09781), with the loss that
Klenitskiy and Vasilev, 2023 (arXiv 2309.07602) and Petrov and Macdonald, 2023 (gSASRec, arXiv 2308.07192) found it to
lack: cross-entropy over all items in place of one sampled negative.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import nn
from torch.utils.checkpoint import checkpoint

from storerec.config import Config
from storerec.llm.shares import whole_mean
from storerec.llm.trainable import TrainableModule
from storerec.llm.training_config import TrainingConfig

_LOGITS = 1 << 26
"""Most logits (targets x items) held for the backward pass; beyond, they are computed again in pieces."""


class SasRecConfig(Config):
    """SASRec: its size, what it reads, and its training.

    The defaults are the best of those tried on MovieLens-100K, by validation; docs/results/tuning has the record.
    """

    width: int = Field(default=64, ge=2)
    """Width of item vectors and layers."""

    blocks: int = Field(default=2, ge=1)
    """Attention blocks."""

    heads: int = Field(default=1, ge=1)
    """Attention heads; they divide the width."""

    expansion: int = Field(default=1, ge=1)
    """Hidden units of the point-wise network, in widths (paper: 1)."""

    dropout: float = Field(default=0.4, ge=0, lt=1)
    """Dropout on vectors, attention and layers in training."""

    max_history: int = Field(default=50, ge=1)
    """Most recent items of a user that are read."""

    item_bias: bool = False
    """Learn one number per item that is added to its score for every user."""

    batch_size: int = Field(default=64, ge=1)
    """Windows of at most ``max_history + 1`` items per optimizer step."""

    training: TrainingConfig = TrainingConfig(learning_rate=1e-3, epochs=80, patience=6, schedule="constant", warmup=0)
    """How long and how fast; validated once an epoch unless ``checkpoint_steps`` is set."""

    validation_users: int | None = Field(default=None, ge=1)
    """Validate on a random sample of this many validation users; none takes all."""

    validation_excludes_history: bool = False
    """Whether the NDCG@10 that decides on the best weights and on stopping leaves out the user's own history. Take what
    the evaluation does; both figures are in the log."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> SasRecConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class _Block(nn.Module):
    """Pre-norm attention and a point-wise network, each with a residual."""

    def __init__(self, config: SasRecConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.width * config.expansion
        self.heads, self.dropout = config.heads, config.dropout
        self.before_attention, self.before_points = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner, self.outer = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def _drop(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x, self.dropout, self.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        users, steps, width = x.shape
        projected = self.queries_keys_values(self.before_attention(x))  # (users, steps, 3 * width)
        split = projected.view(users, steps, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        queries, keys, values = split.unbind(0)  # (users, heads, steps, width / heads) each
        seen = F.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout, is_causal=True)
        x = x + self._drop(self.mixed(seen.transpose(1, 2).reshape(x.shape)))  # (users, steps, width)
        return x + self._drop(self.outer(self._drop(F.relu(self.inner(self.before_points(x))))))


class SasRecModel(TrainableModule):
    """Item rows in, scores of all items out.

    A sequence starts with a learned start vector, so that a first item has something it is predicted from and an empty
    history has scores. Positions are counted from the end of what is read: the last item always has the last position,
    as short histories then meet positions that all windows have trained. Input and output share the item vectors, as in
    the paper.

    Parameters
    ----------
    config: sizes.
    n_items: size of the catalogue.
    seed: seed of the initial weights; the caller's random state is left alone.
    """

    def __init__(self, config: SasRecConfig, n_items: int, *, seed: int = 0) -> None:
        super().__init__()
        self.settings, self.n_items = config, n_items
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.items = nn.Parameter(0.02 * torch.randn(n_items, config.width))
            self.positions = nn.Parameter(0.02 * torch.randn(config.max_history, config.width))
            self.start = nn.Parameter(0.02 * torch.randn(config.width))
            self.bias = nn.Parameter(torch.zeros(n_items)) if config.item_bias else None
            self.blocks = nn.ModuleList(_Block(config) for _ in range(config.blocks))
            self.last_norm = nn.LayerNorm(config.width)

    def trained(self) -> dict[str, nn.Parameter]:
        """All parameters."""
        return dict(self.named_parameters())

    def states(self, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """What is known before the first item and after each one.

        Parameters
        ----------
        items: (users, longest) rows, right-padded with any row; at most ``max_history`` of them.
        lengths: (users,) items of each.

        Returns
        -------
        (users, longest + 1, width); entry j has read j items, and is meaningless beyond ``lengths``.
        """
        users, longest = items.shape
        columns = torch.arange(longest, device=items.device)
        # causal attention keeps the padding on the right out of every state that counts, so nothing is masked
        place = (self.settings.max_history - lengths[:, None] + columns).clamp(max=self.settings.max_history - 1)
        read = self.items[items] * math.sqrt(self.settings.width) + self.positions[place]  # (users, longest, width)
        x = torch.cat([self.start.expand(users, 1, -1), read], dim=1)  # (users, longest + 1, width)
        x = F.dropout(x, self.settings.dropout, self.training)
        for block in self.blocks:
            x = block(x)
        return self.last_norm(x)

    def scores(self, states: torch.Tensor) -> torch.Tensor:
        """Logits of all items: (..., width) to (..., n_items)."""
        return F.linear(states, self.items, self.bias)

    def last_scores(self, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Logits of all items after the whole of each history: (users, n_items)."""
        users = torch.arange(len(items), device=items.device)
        return self.scores(self.states(items, lengths)[users, lengths])

    def forward(self, items: torch.Tensor, lengths: torch.Tensor) -> dict[str, torch.Tensor]:
        """Mean cross-entropy of every item of windows (users, longest), right-padded, given those before it."""
        states = self.states(items[:, :-1], lengths - 1)
        inside = torch.arange(items.shape[1], device=items.device) < lengths[:, None]  # (users, longest)
        targets = items[inside]  # (targets,)
        return {"loss": whole_mean(self._loss(states[inside], targets), len(targets))}

    def _loss(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        rows = max(1, _LOGITS // self.n_items)
        if len(states) <= rows:
            return F.cross_entropy(self.scores(states), targets)
        parts = [
            checkpoint(self._summed, *part, use_reentrant=False)
            for part in zip(states.split(rows), targets.split(rows), strict=True)
        ]
        return torch.stack(parts).sum() / len(targets)

    def _summed(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self.scores(states), targets, reduction="sum")
