"""Decoder layers of the Llama kind in one readable loop, for inference alone.

What transformers' layers do, with fewer and larger operations: adapters are merged into the weights, maps that read the
same vector are one product, norms' weights are part of the map that follows, queries of a group share one attention
call with their keys, and nothing is repeated or cast per call. docs/performance.md says what each brings. The plain
layers are the reference in tests/llm/test_inference.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

from storerec.llm.layers import layer_list
from storerec.llm.packed import PackedMap

_FAMILIES = ("llama", "qwen2", "mistral")


@dataclass
class KeyValues:
    """Keys and values of what was read.

    Attributes
    ----------
    keys, values: per layer (rows, key heads, tokens, head width).
    """

    keys: list[torch.Tensor] = field(default_factory=list)
    values: list[torch.Tensor] = field(default_factory=list)

    def add(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Append a layer's new ones and return all of them."""
        if layer == len(self.keys):
            self.keys.append(keys)
            self.values.append(values)
        else:
            self.keys[layer] = torch.cat([self.keys[layer], keys], dim=2)
            self.values[layer] = torch.cat([self.values[layer], values], dim=2)
        return self.keys[layer], self.values[layer]


@dataclass(frozen=True)
class _Layer:
    """One decoder layer: queries, keys and values from one map; gate and up from another."""

    turn: PackedMap
    out: PackedMap
    widen: PackedMap
    narrow: PackedMap


_LEAST_SAVED = 0.96
"""Share of real tokens above which padding is passed through the layers: to leave it out and put it back takes as long
(3% of an encoding of 120 items, AVX2)."""


def _rounded(tokens: int) -> int:
    """The next multiple of a step: an eighth of the power of two below ``tokens``, but 4 at least and 64 at most.

    oneDNN compiles a product for each number of rows that it meets and keeps the last 1,024, about .7 MiB and 1.3 ms
    each: a service that met histories of all lengths in batches of all sizes grew by a GiB (benchmarks/shapes.py).
    """
    step = min(64, max(4, 1 << max(0, tokens.bit_length() - 4)))
    return -(-tokens // step) * step


class _Layout:
    """Where the tokens of a padded batch stand in a list of the real ones: products pass over no padding.

    Parameters
    ----------
    shape: rows and tokens of the batch.
    real: (rows, tokens) bool, which are no padding; None is all.
    rounded: fill the list up to a length that other batches have too, with any tokens.
    """

    def __init__(self, shape: Sequence[int], real: torch.Tensor | None = None, *, rounded: bool = False) -> None:
        self.rows, self.tokens = shape
        self._kept: torch.Tensor | None = None
        self._place: torch.Tensor | slice = slice(self.rows * self.tokens)
        if real is not None and 0 < int(real.sum()) < _LEAST_SAVED * real.numel():
            self._kept = real.flatten().nonzero()[:, 0]  # (real tokens,)
            self._place = (real.flatten().cumsum(0) - 1).clamp(min=0)  # (rows x tokens,): padding has any token's place
        count = self.rows * self.tokens if self._kept is None else len(self._kept)
        if rounded and (more := _rounded(count) - count):
            device = None if real is None else real.device
            kept = torch.arange(count, device=device) if self._kept is None else self._kept
            self._kept = torch.cat([kept, kept[:1].expand(more)])  # (real tokens and more,)

    def flat(self, batch: torch.Tensor) -> torch.Tensor:
        """(rows, tokens, ...) -> (real tokens, ...); a batch of one row stands for all rows."""
        whole = batch.expand(self.rows, *batch.shape[1:]).flatten(0, 1)
        return whole if self._kept is None else whole[self._kept]

    def padded(self, tokens: torch.Tensor) -> torch.Tensor:
        """(real tokens, ...) -> (rows, tokens, ...), where padding holds anything finite."""
        whole = tokens if self._kept is None else tokens[self._place]
        return whole.unflatten(0, (self.rows, self.tokens))


def _at(batch: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Some tokens of each row: (rows, tokens, ...) at (rows, some) -> (rows, some, ...)."""
    return batch[torch.arange(len(batch), device=batch.device)[:, None], places]


class FusedLayers:
    """The decoder layers of a Llama-like model: RMS norm, rotary places, grouped queries, gated feed-forward.

    Parameters
    ----------
    base: the model without its head; not changed, and its layers are copied.
    adapters: names of those that act.
    dtype: of weights and products. What passes from layer to layer stays in the model's own precision.
    kind: how maps multiply.
    """

    @staticmethod
    def fits(base: Any) -> bool:
        """Whether this loop computes what ``base`` does."""
        config = base.config
        known = getattr(config, "model_type", None) in _FAMILIES and config.hidden_act == "silu"
        slides = any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ())
        return known and not slides and not getattr(config, "sliding_window", None)

    @torch.no_grad()
    def __init__(
        self, base: Any, adapters: Sequence[str], dtype: torch.dtype, kind: type[PackedMap] = PackedMap
    ) -> None:
        config = base.config
        self.dtype, self.eps, self.rotary = dtype, float(config.rms_norm_eps), base.rotary_emb
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.norm = base.norm.weight.clone()  # (width,)
        self.layers = [self._joined(layer, adapters, kind) for layer in layer_list(base)[1]]
        self._packed = self.layers[0].turn.packed
        first: Any = layer_list(base)[1][0]
        self.head_width = int(first.self_attn.head_dim)

    def _joined(self, layer: Any, adapters: Sequence[str], kind: type[PackedMap]) -> _Layer:
        at, mlp = layer.self_attn, layer.mlp
        return _Layer(
            kind.join([at.q_proj, at.k_proj, at.v_proj], adapters, layer.input_layernorm.weight, self.dtype),
            kind.join([at.o_proj], adapters, None, self.dtype),
            kind.join([mlp.gate_proj, mlp.up_proj], adapters, layer.post_attention_layernorm.weight, self.dtype),
            kind.join([mlp.down_proj], adapters, None, self.dtype),
        )

    def start(self) -> KeyValues:
        """See :meth:`storerec.llm.inference.InferenceLayers.start`."""
        return KeyValues()

    def fork(self, read: KeyValues, rows: int | None = None, tokens: int | None = None) -> KeyValues:
        """See :meth:`storerec.llm.inference.InferenceLayers.fork`."""

        def of(part: torch.Tensor) -> torch.Tensor:
            return part[:, :, :tokens].expand(rows or len(part), -1, -1, -1)

        return KeyValues([of(part) for part in read.keys], [of(part) for part in read.values])

    @torch.no_grad()
    def run(
        self,
        inputs: torch.Tensor,
        places: torch.Tensor,
        read: KeyValues | None = None,
        seen: torch.Tensor | None = None,
        *,
        wanted: torch.Tensor | None = None,
        real: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See :meth:`storerec.llm.inference.InferenceLayers.run`."""
        layout = _Layout(inputs.shape[:2], real, rounded=self._packed)
        turn, masks = self._turn(inputs, places, layout), self._masks(inputs, read, seen, wanted)
        hidden = layout.flat(inputs)  # (tokens that are real, width)
        for index, layer in enumerate(self.layers):
            # the last layer's keys and values are those of all tokens; the rest of it is for the wanted alone
            only = wanted if index == len(self.layers) - 1 else None
            found = self._attend(index, self._turned(layer, hidden, turn, layout), masks[only is not None], read, only)
            if only is not None:
                hidden, layout = layout.padded(hidden), _Layout(only.shape, rounded=self._packed)
                hidden = layout.flat(_at(hidden, only))
            hidden = hidden + layer.out(layout.flat(found))
            gate, up = layer.widen(self._normed(hidden)).chunk(2, dim=-1)  # (tokens, inner) each
            hidden = hidden + layer.narrow(F.silu(gate).mul_(up))
        return layout.padded(self._normed(hidden).to(hidden.dtype) * self.norm)

    def _turn(self, inputs: torch.Tensor, places: torch.Tensor, layout: _Layout) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and signed sines of places, (tokens, 1, head width) each."""
        cos, sin = (layout.flat(part)[:, None] for part in self.rotary(inputs, places))
        half = self.head_width // 2
        sin = torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)  # signed: a roll then does for rotating halves
        return cos.to(self.dtype), sin.to(self.dtype)

    def _masks(
        self, inputs: torch.Tensor, read: KeyValues | None, seen: torch.Tensor | None, wanted: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Masks of all tokens and of those wanted; None where attention is causal and nothing was read before."""
        rows, more = inputs.shape[:2]
        before = read.keys[0].shape[2] if read is not None and read.keys else 0
        causal = seen is None and not before
        if seen is None:
            seen = torch.ones(1, more, before + more, dtype=torch.bool, device=inputs.device).tril(before)
        last = None if wanted is None else self._mask(_at(seen.expand(rows, -1, -1), wanted))
        return None if causal else self._mask(seen), last

    def _turned(
        self, layer: _Layer, hidden: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor], layout: _Layout
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, keys and values, queries and keys turned by their places: (rows, tokens, heads, head width) each."""
        heads, groups, (cos, sin) = self.heads, self.groups, turn
        both = layer.turn(self._normed(hidden)).view(-1, heads + 2 * groups, self.head_width)
        turned, values = both.split([heads + groups, groups], dim=1)
        turned = torch.addcmul(turned * cos, turned.roll(self.head_width // 2, -1), sin)
        queries, keys = turned.split([heads, groups], dim=1)
        return layout.padded(queries), layout.padded(keys), layout.padded(values)

    def _attend(
        self,
        index: int,
        parts: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        mask: torch.Tensor | None,
        read: KeyValues | None,
        only: torch.Tensor | None,
    ) -> torch.Tensor:
        """What each token, or those ``only``, gather: (rows, tokens, heads x head width)."""
        queries, keys, values = parts
        keys, values = keys.transpose(1, 2), values.transpose(1, 2)  # (rows, groups, tokens, head width)
        if read is not None:
            keys, values = read.add(index, keys, values)
        share = self.heads // self.groups
        if mask is None:
            keys, values = keys.repeat_interleave(share, 1), values.repeat_interleave(share, 1)
            found = F.scaled_dot_product_attention(queries.transpose(1, 2), keys, values, is_causal=True)
            return found.transpose(1, 2).flatten(2)
        if only is not None:
            queries = _at(queries, only)
        tokens = queries.shape[1]
        # queries that share a key head stand side by side like tokens: (rows, groups, share x tokens, head width)
        queries = queries.unflatten(2, (self.groups, -1)).permute(0, 2, 3, 1, 4).flatten(2, 3)
        found = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return found.unflatten(2, (-1, tokens)).permute(0, 3, 1, 2, 4).flatten(2)

    def _normed(self, hidden: torch.Tensor) -> torch.Tensor:
        """``hidden`` at RMS 1, in the products' precision; the norms' weights are in the maps."""
        size = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True)  # (tokens, 1)
        scale = torch.rsqrt(size.square().div_(hidden.shape[-1]).add_(self.eps))
        return (hidden * scale).to(self.dtype)

    def _mask(self, seen: torch.Tensor) -> torch.Tensor:
        """What is added to attention, (rows, 1, share x tokens, all tokens)."""
        mask = torch.zeros(seen.shape, dtype=self.dtype, device=seen.device)
        mask = mask.masked_fill(~seen, torch.finfo(self.dtype).min)
        return mask.repeat(1, self.heads // self.groups, 1)[:, None]
