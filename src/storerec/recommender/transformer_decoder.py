"""The Transformer as a step-by-step decoder: a history is encoded once, and all beams share its keys and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from storerec.data.histories import Histories
from storerec.recommender.normalisers import code_log_probabilities
from storerec.recommender.transformer import TransformerRecommender

if TYPE_CHECKING:
    from transformers import EncoderDecoderCache


@dataclass
class EncodedPrefix:
    """What a batch of users has read and decoded so far.

    Attributes
    ----------
    encoded: (users, tokens, width) the histories.
    history: (users, heads, 1, tokens) bias and mask of attention to them; all nodes see the whole history.
    cache: keys and values of the histories, and of the start and every node decoded since.
    depths: (1 + nodes,) depth of each of these: a node's bias to another goes by depth, not by place in the cache.
    """

    encoded: torch.Tensor
    history: torch.Tensor
    cache: EncoderDecoderCache
    depths: torch.Tensor


class TransformerDecoder:
    """Prefill and decode steps of one Transformer.

    Parameters
    ----------
    model: the trained model.
    dtype: arithmetic of the products.
    """

    def __init__(self, model: TransformerRecommender, *, dtype: torch.dtype | None = None) -> None:
        self.model, self.tree = model, model.tree
        self.dtype = dtype or model.codes.dtype

    def prefill(self, histories: Histories) -> tuple[EncodedPrefix, torch.Tensor]:
        """Read the last ``max_history`` items of each history: the prefix, and (users, width) outputs at the start."""
        model, device = self.model, self.model.device
        recent = histories.tail(model.settings.max_history)
        steps = np.arange(int(recent.lengths.max(initial=0)))
        flat = np.append(recent.items, 0).astype(np.int64)
        items = flat[np.minimum(recent.offsets[:-1, None] + steps, len(flat) - 1)]  # (users, longest); padding is any
        lengths = torch.from_numpy(recent.lengths.astype(np.int64)).to(device)
        with model.computing_in(self.dtype):
            encoded = model.encode(torch.from_numpy(items).to(device), lengths)
            history = model.history_bias(lengths[:, None], items.shape[1])
            depths = torch.zeros(1, dtype=torch.int64, device=device)
            from transformers import DynamicCache, EncoderDecoderCache  # here: reading a STORE does without

            cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
            start = model.starts[1].expand(len(lengths), 1, -1)
            hidden = model.decode(start, model.depth_bias(depths, depths), history, encoded, cache)
        return EncodedPrefix(encoded, history, cache, depths), hidden[:, 0]

    def step(self, prefix: EncodedPrefix, codes: torch.Tensor, position: int, ancestors: torch.Tensor) -> torch.Tensor:
        """Append one code per beam and return the outputs after them; see :class:`Decoder` for the arguments."""
        model, beams = self.model, codes.shape[1]
        inputs = F.embedding(codes + model.bounds[position], model.codes)  # (users, beams, width)
        own = torch.full((beams,), position + 1, device=codes.device)
        prefix.depths = torch.cat([prefix.depths, own])
        seen = F.pad(ancestors, (1, 0), value=True)  # every path begins at the start
        bias = model.depth_bias(own, prefix.depths)  # (1, heads, beams, 1 + nodes)
        bias = bias.masked_fill(~seen[:, None], torch.finfo(bias.dtype).min)  # (users, heads, beams, 1 + nodes)
        with model.computing_in(self.dtype):
            return model.decode(inputs, bias, prefix.history, prefix.encoded, prefix.cache)

    def log_probabilities(
        self, hidden: torch.Tensor, position: int, children: torch.Tensor, normaliser: str
    ) -> torch.Tensor:
        """Log-probabilities of the codes of ``position``: (..., width) -> (..., codes)."""
        with self.model.computing_in(self.dtype):
            return code_log_probabilities(self.model, hidden, position, children, normaliser)
