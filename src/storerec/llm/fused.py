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

    def fork(self, read: KeyValues, rows: int | None = None) -> KeyValues:
        """See :meth:`storerec.llm.inference.InferenceLayers.fork`."""
        if rows is None:
            return KeyValues(list(read.keys), list(read.values))
        return KeyValues(*([part.expand(rows, -1, -1, -1) for part in parts] for parts in (read.keys, read.values)))

    @torch.no_grad()
    def run(
        self,
        inputs: torch.Tensor,
        places: torch.Tensor,
        read: KeyValues | None = None,
        seen: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See :meth:`storerec.llm.inference.InferenceLayers.run`."""
        cos, sin = (part[:, :, None] for part in self.rotary(inputs, places))  # (rows, tokens, 1, head width)
        half = self.head_width // 2
        sin = torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)  # signed: a roll then does for rotating halves
        cos, sin = cos.to(self.dtype), sin.to(self.dtype)
        if seen is None and read is not None and read.keys:
            before, more = read.keys[0].shape[2], inputs.shape[1]
            seen = torch.ones(1, more, before + more, dtype=torch.bool, device=inputs.device).tril(before)
        mask = None if seen is None else self._mask(seen)
        hidden = inputs  # (rows, tokens, width)
        for index, layer in enumerate(self.layers):
            hidden = hidden + self._attend(index, layer, self._normed(hidden), (cos, sin), mask, read)
            gate, up = layer.widen(self._normed(hidden)).chunk(2, dim=-1)  # (rows, tokens, inner) each
            hidden = hidden + layer.narrow(F.silu(gate).mul_(up))
        return self._normed(hidden).to(hidden.dtype) * self.norm

    def _attend(
        self,
        index: int,
        layer: _Layer,
        normed: torch.Tensor,
        turn: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor | None,
        read: KeyValues | None,
    ) -> torch.Tensor:
        heads, groups, (cos, sin) = self.heads, self.groups, turn
        rows, tokens = normed.shape[:2]
        both = layer.turn(normed).view(rows, tokens, heads + 2 * groups, self.head_width)
        turned, values = both.split([heads + groups, groups], dim=2)
        turned = torch.addcmul(turned * cos, turned.roll(self.head_width // 2, -1), sin)
        queries, keys = turned.split([heads, groups], dim=2)
        keys, values = keys.transpose(1, 2), values.transpose(1, 2)  # (rows, groups, tokens, head width)
        if read is not None:
            keys, values = read.add(index, keys, values)
        if mask is None:
            share = heads // groups
            keys, values = keys.repeat_interleave(share, 1), values.repeat_interleave(share, 1)
            found = F.scaled_dot_product_attention(queries.transpose(1, 2), keys, values, is_causal=True)
            return layer.out(found.transpose(1, 2).reshape(rows, tokens, -1))
        # queries that share a key head stand side by side like tokens: (rows, groups, share x tokens, head width)
        queries = queries.unflatten(2, (groups, -1)).permute(0, 2, 3, 1, 4).flatten(2, 3)
        found = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        found = found.unflatten(2, (-1, tokens)).permute(0, 3, 1, 2, 4).reshape(rows, tokens, -1)
        return layer.out(found)

    def _normed(self, hidden: torch.Tensor) -> torch.Tensor:
        """``hidden`` at RMS 1, in the products' precision; the norms' weights are in the maps."""
        size = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True)  # (rows, tokens, 1)
        scale = torch.rsqrt(size.square().div_(hidden.shape[-1]).add_(self.eps))
        return (hidden * scale).to(self.dtype)

    def _mask(self, seen: torch.Tensor) -> torch.Tensor:
        """What is added to attention, (rows, 1, share x tokens, all tokens)."""
        mask = torch.zeros(seen.shape, dtype=self.dtype, device=seen.device)
        mask = mask.masked_fill(~seen, torch.finfo(self.dtype).min)
        return mask.repeat(1, self.heads // self.groups, 1)[:, None]
