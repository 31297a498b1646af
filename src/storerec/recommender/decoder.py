"""The recommender as a step-by-step decoder: histories are read once, and all beams share their keys and values."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from storerec.config import RunOptions
from storerec.data.histories import Histories
from storerec.llm.inference import Opening, PlainLayers, inference_layers
from storerec.llm.packed import PackedMap
from storerec.llm.precision import arithmetic, pick_dtype
from storerec.recommender.history import tokens_of_item
from storerec.recommender.model import Recommender


@dataclass
class Prefix:
    """What a batch of users has read so far.

    Attributes
    ----------
    read: keys and values of the histories and of every node decoded since.
    lengths: (users,) tokens of each history, instruction included.
    real: (users, longest) which cached history places are no padding.
    """

    read: Any
    lengths: torch.Tensor
    real: torch.Tensor


class Decoder:
    """Prefill and decode steps of one recommender, with its weights as they are now.

    Parameters
    ----------
    model: the trained recommender. Training it on after this is not seen here.
    dtype: arithmetic of the products.
    fused, int8: hold a copy of the layers that is made for this, and multiply in 8-bit integers
        (:func:`storerec.llm.inference.inference_layers`).
    """

    def __init__(
        self, model: Recommender, *, dtype: torch.dtype | None = None, fused: bool = True, int8: bool = False
    ) -> None:
        self.model = model
        self.dtype = dtype or model.backbone.word_embeddings.weight.dtype
        self.tree = model.tree
        self.layers = inference_layers(
            model.base, model.backbone.word_embeddings, model.adapters, self.dtype, fused=fused, int8=int8
        )
        words = model.backbone.encode([model.settings.prompts.sequence], max_tokens=10_000, begin=True)
        self.instruction = torch.from_numpy(words.flat).to(model.backbone.device)  # (tokens,)

    @classmethod
    def under(cls, model: Recommender, options: RunOptions) -> Decoder:
        """With the arithmetic and the layers that ``options`` ask for."""
        dtype = pick_dtype(options.inference_dtype, model.backbone.device)
        return cls(model, dtype=dtype, fused=options.fused, int8=options.int8)

    def grown(self) -> Decoder:
        """A decoder for the model's items as they are now, after :meth:`Recommender.extend`; it shares the layers."""
        other = copy.copy(self)
        other.tree = self.model.tree
        other.__dict__.pop("_item_rows", None)  # where cached properties live
        return other

    def prefill(self, histories: Histories) -> tuple[Prefix, torch.Tensor]:
        """Read the last ``max_history`` items of each history: the prefix, and (users, width) outputs at its ends."""
        model, device = self.model, self.instruction.device
        recent = histories.tail(model.settings.max_history)
        counts = torch.from_numpy(np.ascontiguousarray(recent.lengths.astype(np.int64))).to(device)
        longest = int(counts.max())
        steps = torch.arange(longest, device=device)
        places = torch.from_numpy(recent.offsets[:-1].astype(np.int64)).to(device)[:, None] + steps
        flat = torch.from_numpy(np.append(recent.items, 0).astype(np.int64)).to(device)
        items = flat[places.clamp(max=len(flat) - 1)]  # (users, longest); padding is anything
        inputs = model.history_tokens(items)  # (users, tokens, width)
        tokens = counts * tokens_of_item(len(model.sizes), model.settings.history)  # (users,)
        read, last = self._opening.ends(inputs, tokens)
        lengths = self._opening.tokens + tokens
        total = torch.arange(self._opening.tokens + inputs.shape[1], device=device)
        return Prefix(read, lengths, total < lengths[:, None]), last

    @cached_property
    @torch.no_grad()
    def _opening(self) -> Opening:
        return Opening(self.layers, self.model.backbone.embed(self.instruction))

    def item_log_probabilities(self, hidden: torch.Tensor) -> torch.Tensor | None:
        """Log-probabilities of all items by their own rows, (users, width) -> (users, items); None without rows."""
        if not self.model.settings.item_rows:
            return None
        with arithmetic(self.dtype, hidden.device):
            logits = F.linear(hidden, self._item_rows)
        return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)

    @cached_property
    @torch.no_grad()
    def _item_rows(self) -> torch.Tensor:
        """What predicts each item: (items, width). Summed once, not at every call."""
        return self.model.item_rows.to(self.dtype)

    @cached_property
    @torch.no_grad()
    def _code_inputs(self) -> torch.Tensor:
        """What codes are read by: (codes of all positions, width)."""
        return self.model.code_inputs.clone()

    @cached_property
    @torch.no_grad()
    def _code_outputs(self) -> torch.Tensor:
        """What codes are predicted by: (codes of all positions, width). Made once: 1 ms at each step otherwise."""
        return self.model.code_outputs.clone()

    def step(self, prefix: Prefix, codes: torch.Tensor, position: int, ancestors: torch.Tensor) -> torch.Tensor:
        """Append one code per beam and return the outputs after them.

        Parameters
        ----------
        codes: (users, beams) codes of ``position``.
        ancestors: (users, beams, nodes) bool: which appended nodes, these included, lie on each beam's path.

        Returns
        -------
        (users, beams, width)
        """
        inputs = self._code_inputs[codes + int(self.model.starts[position])]  # (users, beams, width)
        places = (prefix.lengths + position)[:, None].expand(codes.shape)
        seen = torch.cat([prefix.real[:, None].expand(-1, codes.shape[1], -1), ancestors], dim=-1)
        return self.layers.run(inputs, places, prefix.read, seen)

    def log_probabilities(
        self, hidden: torch.Tensor, position: int, children: torch.Tensor, normaliser: str
    ) -> torch.Tensor:
        """Log-probabilities of the codes of ``position``: (..., width) -> (..., codes).

        ``children`` (..., codes) are the tree's children (-1 = none); they matter for the normaliser ``children`` only.
        """
        start, end = int(self.model.starts[position]), int(self.model.starts[position + 1])
        with arithmetic(self.dtype, hidden.device):
            logits = F.linear(hidden, self._code_outputs[start:end])
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if normaliser == "vocabulary":
            return logits - self._vocabulary_logsumexp(hidden)[..., None]
        if normaliser == "children":
            logits = torch.where(children < 0, -torch.inf, logits)
            # a dead beam (no children at all) keeps minus infinity instead of nan
            return (logits - logits.logsumexp(-1, keepdim=True).clamp(min=torch.finfo(logits.dtype).min)).nan_to_num(
                nan=-torch.inf, neginf=-torch.inf
            )
        return logits.log_softmax(-1)

    def _vocabulary_logsumexp(self, hidden: torch.Tensor) -> torch.Tensor:
        """:meth:`Recommender.vocabulary_logsumexp` by one packed head: (..., width) -> (...)."""
        if self._head is None:
            with arithmetic(self.dtype, hidden.device):
                return self.model.vocabulary_logsumexp(hidden)
        return self._head(hidden.to(self.dtype)).float().logsumexp(-1)

    @cached_property
    @torch.no_grad()
    def _head(self) -> PackedMap | None:
        """Rows of the text vocabulary and of all codes; None where the layers are taken as they are."""
        text = self.model.backbone.model.get_output_embeddings()
        if isinstance(self.layers, PlainLayers) or getattr(text, "bias", None) is not None:
            return None
        rows = torch.cat([text.weight, self.model.code_outputs])
        return PackedMap.of(rows.to(self.dtype))
