"""Decoder layers as inference runs them: what they have read is kept, and adapters are merged beforehand."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import nn

from storerec.errors import ConfigError
from storerec.llm.adapters import activate, merge_into
from storerec.llm.fused import FusedLayers
from storerec.llm.packed import Int8Map, PackedMap
from storerec.llm.precision import arithmetic

if TYPE_CHECKING:
    from transformers import DynamicCache


class InferenceLayers(Protocol):
    """The decoder layers of a model, with keys and values of what was read before."""

    def start(self) -> Any:
        """An empty store of keys and values, for one batch."""
        ...

    def fork(self, read: Any, rows: int | None = None, tokens: int | None = None) -> Any:
        """A store that begins with what ``read`` holds; what it gains, ``read`` does not.

        ``rows``: a store of so many rows, from one of a single row. ``tokens``: with only the first so many of a row.
        """
        ...

    def run(
        self,
        inputs: torch.Tensor,
        places: torch.Tensor,
        read: Any = None,
        seen: torch.Tensor | None = None,
        *,
        wanted: torch.Tensor | None = None,
        real: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Read more tokens.

        Parameters
        ----------
        inputs: (rows, tokens, width) input vectors.
        places: (rows, tokens) position ids.
        read: from :meth:`start`; gains the keys and values of these tokens. None where no more will be read.
        seen: (rows, tokens, all tokens so far) bool, which each of these sees; None is causal, behind what was read.
        wanted: (rows, some) which of these tokens' outputs are asked for; None is all.
        real: (rows, tokens) bool, which are no padding; None is all. No real token may see padding. Whether padding is
            passed through the layers, and what its outputs are, is not said.

        Returns
        -------
        (rows, tokens, width) last-layer outputs, or (rows, some, width) of those wanted.
        """
        ...


def inference_layers(
    base: nn.Module,
    shared: nn.Module,
    adapters: Sequence[str],
    dtype: torch.dtype,
    *,
    fused: bool = True,
    int8: bool = False,
) -> InferenceLayers:
    """The fastest exact form of ``base``'s layers with ``adapters`` acting.

    Parameters
    ----------
    shared: the word embeddings, which no copy needs.
    dtype: arithmetic of the products.
    fused: hold a copy of the layers whose adapters are merged and whose maps of one input are joined. False takes the
        layers as they are: no memory of their own, and each adapter adds two products to every map.
    int8: multiply in 8-bit integers, which is faster and not exact.

    Raises
    ------
    ConfigError: int8 cannot be had, here or with these layers.
    """
    if int8:
        check_int8(base, fused and dtype != torch.float64)
    if not fused or dtype == torch.float64:  # float64 is for checking: then nothing is done in another order
        return PlainLayers(base, dtype, tuple(adapters))
    if FusedLayers.fits(base):
        return FusedLayers(base, adapters, dtype, Int8Map if int8 else PackedMap)
    own = copy.deepcopy(base, {id(shared): shared})
    merge_into(own, adapters)
    return PlainLayers(own, dtype)


def check_int8(base: Any, fused: bool) -> None:
    """Raise :class:`ConfigError` unless ``base``'s layers can multiply in 8-bit integers."""
    if not fused or not FusedLayers.fits(base):
        raise ConfigError("int8: only with fused layers of a Llama-like backbone (llama, qwen2, mistral) below float64")
    if next(base.parameters()).device.type != "cpu":
        raise ConfigError("int8: on a CPU only; set device to cpu, or int8 to false")


class Opening:
    """Tokens that all sequences begin with, an instruction say: read once for all of them.

    Parameters
    ----------
    layers: what reads.
    inputs: (tokens, width) input vectors, one at least.
    """

    def __init__(self, layers: InferenceLayers, inputs: torch.Tensor) -> None:
        self.layers, self.tokens = layers, len(inputs)
        self._read = layers.start()
        self._last = layers.run(inputs[None], self._places(0, inputs[None]), self._read)[:, -1:]  # (1, 1, width)

    def fork(self, rows: int) -> Any:
        """A store of so many rows that have read it."""
        return self.layers.fork(self._read, rows)

    def ends(self, inputs: torch.Tensor, lengths: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """Read more behind it.

        Parameters
        ----------
        inputs: (rows, tokens, width), padding to the right.
        lengths: (rows,) tokens of each row that are none; 0 is allowed.

        Returns
        -------
        The store of all, and the outputs at each row's last token, its own last where a row has none: (rows, width).
        """
        rows, tokens = inputs.shape[:2]
        read, own = self.fork(rows), self._last[0].expand(rows, -1)
        if not tokens:
            return read, own
        real = torch.arange(tokens, device=inputs.device) < lengths[:, None]  # (rows, tokens)
        wanted = (lengths - 1).clamp(min=0)[:, None]  # (rows, 1)
        last = self.layers.run(inputs, self._places(self.tokens, inputs), read, wanted=wanted, real=real)[:, 0]
        return read, torch.where(lengths[:, None] > 0, last, own)

    @staticmethod
    def _places(first: int, inputs: torch.Tensor) -> torch.Tensor:
        return torch.arange(first, first + inputs.shape[1], device=inputs.device).expand(len(inputs), -1)


class PlainLayers:
    """transformers' own layers, of any family."""

    def __init__(self, base: nn.Module, dtype: torch.dtype, adapters: tuple[str, ...] | None = None) -> None:
        self.base, self.dtype, self.adapters = base, dtype, adapters

    def start(self) -> DynamicCache:
        """See :meth:`InferenceLayers.start`."""
        from transformers import DynamicCache  # here: the fused layers do without transformers, which takes seconds

        if self.adapters is not None:  # the layers are shared with other models, which may have switched them
            activate(self.base, self.adapters)
        return DynamicCache(config=cast("Any", self.base.config))

    def fork(self, read: DynamicCache, rows: int | None = None, tokens: int | None = None) -> DynamicCache:
        """See :meth:`InferenceLayers.fork`."""
        other = copy.copy(read)
        other.layers = [copy.copy(layer) for layer in read.layers]  # they replace their tensors, and change none
        for layer in cast("list[Any]", other.layers):
            layer.keys, layer.values = (
                part[:, :, :tokens].expand(rows or len(part), -1, -1, -1) for part in (layer.keys, layer.values)
            )
        if self.adapters is not None:
            activate(self.base, self.adapters)
        return other

    @torch.no_grad()
    def run(
        self,
        inputs: torch.Tensor,
        places: torch.Tensor,
        read: DynamicCache | None = None,
        seen: torch.Tensor | None = None,
        *,
        wanted: torch.Tensor | None = None,
        real: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See :meth:`InferenceLayers.run`."""
        mask: dict[str, Any] = {}
        if seen is not None:
            lowest = torch.finfo(inputs.dtype).min
            hidden = torch.zeros(seen.shape, dtype=inputs.dtype, device=seen.device).masked_fill(~seen, lowest)
            mask["attention_mask"] = hidden[:, None]  # (rows, 1, tokens, all tokens)
        if read is not None:
            mask |= {"past_key_values": read, "use_cache": True}
        elif self.adapters is not None:
            activate(self.base, self.adapters)
        with arithmetic(self.dtype, inputs.device):
            out = self.base(inputs_embeds=inputs, position_ids=places, **({"use_cache": False} | mask))
        hidden = out.last_hidden_state  # (rows, tokens, width)
        return hidden if wanted is None else hidden.gather(1, wanted[..., None].expand(-1, -1, hidden.shape[-1]))
