"""Linear maps laid out for multiplying, for inference alone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F

from storerec.errors import ConfigError
from storerec.llm.bare import BareMap


def _merged(one: Any, adapters: Sequence[str]) -> torch.Tensor:
    """Weight (out, in) of a map with its adapters' updates."""
    if isinstance(one, BareMap):
        return one.merged(adapters)
    if not _adapted(one):
        return one.weight
    present = [name for name in adapters if name in one._all_available_adapter_names()]
    return one.get_base_layer().weight + sum(one.get_delta_weight(name) for name in present)


def _adapted(one: Any) -> bool:
    """Whether peft has wrapped a map; asked by a method, because a bundle's weights may be read without peft."""
    return hasattr(one, "get_base_layer")


@dataclass(frozen=True)
class PackedMap:
    """A linear map with its adapters, and those beside it, as one.

    Attributes
    ----------
    weight: (out, in), in oneDNN's own blocks where ``packed``.
    bias: (out,) or None.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    packed: bool

    @classmethod
    def join(cls, maps: Sequence[Any], adapters: Sequence[str], norm: torch.Tensor | None, dtype: torch.dtype) -> Self:
        """Maps of the same input as one; ``norm`` (in,) scales that input."""
        plain: list[Any] = [one.get_base_layer() if _adapted(one) else one for one in maps]
        weight = torch.cat([_merged(one, adapters) for one in maps])  # (out of all, in)
        bias = None if plain[0].bias is None else torch.cat([one.bias for one in plain]).detach().to(dtype)
        return cls.of((weight if norm is None else weight * norm).detach().to(dtype), bias)

    @classmethod
    def of(cls, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Self:
        """A weight (out, in) as it is."""
        packed = _packed(weight)
        return cls(weight if packed is None else packed, bias, packed is not None)

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out)."""
        if self.packed:
            return torch.ops.mkldnn._linear_pointwise(inputs, self.weight, self.bias, "none", [], "")
        return F.linear(inputs, self.weight, self.bias)


_ROWS_PACKED_FOR = 512
"""Rows of inputs that the blocks are laid out for. Other numbers are right too: laid out for 64, 20 rows take as long,
and 512 to 1,024 five percent longer (AVX2)."""


def _packed(weight: torch.Tensor) -> torch.Tensor | None:
    """``weight`` in the blocks that oneDNN multiplies by, which it otherwise lays out anew at every call.

    None where this build of torch or this device has no such blocks. On 2 cores with AVX-512, all maps of SmolLM2-135M:
    130 GFLOP/s for 20 rows where ``F.linear`` reaches 73, 195 and 139 for 100 (docs/performance.md). torch's compiler
    uses the same two operations when it freezes a model.
    """
    if weight.device.type != "cpu" or weight.dtype not in (torch.float32, torch.bfloat16):
        return None
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS_PACKED_FOR)
        torch.ops.mkldnn._linear_pointwise(weight.new_zeros(1, weight.shape[1]), packed, None, "none", [], "")
    except (AttributeError, NotImplementedError, RuntimeError):
        return None
    return packed


class Int8Map(PackedMap):
    """A map whose products are of 8-bit integers: twice as fast on a CPU, and not exact.

    Weights have a scale per output, inputs one per row, found at each call, so that a row's product does not depend on
    the rows beside it. torch's dynamic quantization multiplies (FBGEMM); benchmarks/precision.py says what it costs.
    """

    @classmethod
    def of(cls, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Self:
        """A weight (out, in), rounded.

        Raises
        ------
        ConfigError: this build of torch or this device has no such products.
        """
        weight = F.pad(weight.float(), (0, 2))  # for the two inputs that every row gets beside its own
        scale = weight.abs().amax(1).clamp(min=1e-12) / 127  # (out,)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # quantized tensors will go some day; none leaves here
                zeros = torch.zeros(len(weight), dtype=torch.int64)
                rounded = torch.quantize_per_channel(weight, scale, zeros, 0, torch.qint8)
                return cls(torch.ops.quantized.linear_prepack(rounded, None), bias, packed=True)
        except (AttributeError, NotImplementedError, RuntimeError) as error:
            fault = str(error).strip().splitlines()[0]
            raise ConfigError(
                f"int8: no such products with torch {torch.__version__} on {weight.device} ({fault})"
            ) from None

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out)."""
        largest = inputs.abs().amax(-1, keepdim=True).clamp(min=1e-12)  # (..., 1)
        # the range is found over all rows: with each divided by its largest, and 1 and -1 beside it, always the same
        scaled = inputs.new_empty((*inputs.shape[:-1], inputs.shape[-1] + 2), dtype=torch.float32)
        torch.div(inputs, largest, out=scaled[..., :-2])
        scaled[..., -2], scaled[..., -1] = 1.0, -1.0
        # 7 bits of inputs: processors without VNNI add two products in 16 bits
        product = torch.ops.quantized.linear_dynamic(scaled, self.weight, reduce_range=True)
        product = (product * largest).to(inputs.dtype)
        return product if self.bias is None else product + self.bias
