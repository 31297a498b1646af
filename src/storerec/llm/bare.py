"""A Llama model as its weights alone: what inference needs, read without transformers and peft.

Their classes take three seconds to import and another to fill, which is most of the time from a bundle to its first
recommendation. Modules and weights have the names they have there, so that saved weights fit both; what computes is
:class:`storerec.llm.fused.FusedLayers`. Only what is known to be equal is read so: anything else is left to
transformers (tests/llm/test_bare.py compares the two).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn


class _Weight(nn.Module):
    """A module that is one weight: a norm's, or a factor of an update."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)


class BareMap(_Weight):
    """The weight (out, in) of a linear map and the low-rank updates that adapters make to it.

    Attributes
    ----------
    lora_A, lora_B: per adapter (rank, in) and (out, rank), named as peft names them.
    """

    bias = None

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__(weight)
        self.lora_A, self.lora_B = nn.ModuleDict(), nn.ModuleDict()
        self._scales: dict[str, float] = {}

    def add(self, name: str, rank: int, scale: float) -> None:
        """Add the update of adapter ``name``; its factors are zero until they are loaded."""
        out, width = self.weight.shape
        self.lora_A[name] = _Weight(self.weight.new_zeros(rank, width))
        self.lora_B[name] = _Weight(self.weight.new_zeros(out, rank))
        self._scales[name] = scale

    def merged(self, names: Sequence[str]) -> torch.Tensor:
        """The weight with the updates of the adapters ``names``, where it has them."""
        updates = (self._update(name) for name in names if name in self._scales)
        return self.weight + sum(updates, torch.zeros((), device=self.weight.device))

    def _update(self, name: str) -> torch.Tensor:
        down: Any = self.lora_A[name]
        up: Any = self.lora_B[name]
        return up.weight @ down.weight * self._scales[name]

    @torch.no_grad()
    def merge(self, names: Sequence[str]) -> None:
        """Add the updates of ``names`` into the weight and drop all updates."""
        self.weight.copy_(self.merged(names))
        self.lora_A, self.lora_B, self._scales = nn.ModuleDict(), nn.ModuleDict(), {}


class _Rotary(nn.Module):
    """Cosines and sines of places, of the default kind."""

    frequencies: torch.Tensor

    def __init__(self, theta: float, width: int) -> None:
        super().__init__()
        frequencies = 1.0 / (theta ** (torch.arange(0, width, 2, dtype=torch.float) / width))
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, inputs: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows, tokens, head width) each, for ``places`` (rows, tokens)."""
        half = places[..., None].float() * self.frequencies
        both = torch.cat((half, half), dim=-1)
        return both.cos().to(inputs.dtype), both.sin().to(inputs.dtype)


class BareLlama(nn.Module):
    """The model without its text head, as :class:`storerec.llm.fused.FusedLayers` reads it. It has no ``forward``."""

    def __init__(self, config: SimpleNamespace, weights: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.config = config
        words = weights["model.embed_tokens.weight"]
        if words.shape != (config.vocab_size, config.hidden_size):
            raise ValueError(f"word embeddings: {tuple(words.shape)}")
        self.embed_tokens = nn.Embedding.from_pretrained(words)
        self.norm = _Weight(weights["model.norm.weight"])
        self.layers = nn.ModuleList(_layer(config, weights, index) for index in range(config.num_hidden_layers))
        self.rotary_emb = _Rotary(config.rope_parameters["rope_theta"], config.head_dim)

    def add_adapter(self, name: str, *, rank: int, scale: float, layers: int, attention_only: bool) -> None:
        """Add an adapter to the first ``layers`` layers."""
        for layer in list(self.layers)[:layers]:
            for place, one in layer.named_modules():
                if isinstance(one, BareMap) and (not attention_only or place.startswith("self_attn.")):
                    one.add(name, rank, scale)

    def merge_adapters(self, names: Sequence[str]) -> None:
        """Add the updates of ``names`` into the weights and drop all adapters."""
        for one in self.modules():
            if isinstance(one, BareMap):
                one.merge(names)


class BareModel(nn.Module):
    """The model with its text head."""

    def __init__(self, config: SimpleNamespace, weights: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.config, self.model = config, BareLlama(config, weights)
        with torch.device("meta"):  # no weights are drawn that would be thrown away
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.lm_head.weight = self.model.embed_tokens.weight

    @property
    def base_model(self) -> BareLlama:
        """The model without its text head."""
        return self.model

    def get_input_embeddings(self) -> nn.Embedding:
        """The word embeddings."""
        return self.model.embed_tokens

    def get_output_embeddings(self) -> nn.Linear:
        """The text head."""
        return self.lm_head


class BareTokenizer:
    """A tokenizer that is its ``tokenizer.json`` and nothing more.

    Attributes
    ----------
    bos_token_id, eos_token_id: of the special tokens, None without.
    """

    def __init__(self, core: Tokenizer, bos: str | None, eos: str | None) -> None:
        self._core = core
        self.bos_token_id = None if bos is None else core.token_to_id(bos)
        self.eos_token_id = None if eos is None else core.token_to_id(eos)

    def __call__(self, texts: str | list[str], *, add_special_tokens: bool = True) -> dict[str, list]:
        """Token ids of a text, or of each of several, under ``input_ids``."""
        several = [texts] if isinstance(texts, str) else texts
        ids = [one.ids for one in self._core.encode_batch(several, add_special_tokens=add_special_tokens)]
        return {"input_ids": ids[0] if isinstance(texts, str) else ids}


def read_bare(folder: Path) -> tuple[BareModel, BareTokenizer] | None:
    """Model and tokenizer of a folder that transformers wrote; None where they are not of the one kind known here."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        words = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        if not _known(config, words):
            return None
        weights = load_file(folder / "model.safetensors")
        if any(weight.dtype != torch.float32 for weight in weights.values()):
            return None
        model = BareModel(SimpleNamespace(**config), weights)
        if {name: weight.shape for name, weight in model.named_parameters()} != {
            name: weight.shape for name, weight in weights.items()
        }:
            return None
        core = Tokenizer.from_file(str(folder / "tokenizer.json"))
        core.no_truncation()
        core.no_padding()
        return model, BareTokenizer(core, words.get("bos_token"), words.get("eos_token"))
    except (OSError, ValueError, LookupError, AttributeError, TypeError, RuntimeError, SafetensorError):
        return None  # whatever is wrong with it, transformers says it better


_OBEYED = {
    "add_bos_token", "add_eos_token", "split_special_tokens", "added_tokens_decoder", "extra_special_tokens",
}  # fmt: skip
"""Settings by which transformers changes what tokenizer.json says."""


def _known(config: dict[str, Any], words: dict[str, Any]) -> bool:
    """Whether nothing in these files asks for more than is done here."""
    wanted = {
        "model_type": "llama",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
    }
    rotary = config["rope_parameters"]
    odd = {"quantization_config", "sliding_window", "layer_types", "auto_map"}
    return (
        all(config[name] == value for name, value in wanted.items())
        and rotary.keys() == {"rope_theta", "rope_type"}
        and rotary["rope_type"] == "default"
        and not odd & config.keys()
        and words["tokenizer_class"] == "TokenizersBackend"
        and not _OBEYED & words.keys()
        and all(isinstance(words.get(name), str | None) for name in ("bos_token", "eos_token"))
    )


def _layer(config: SimpleNamespace, weights: Mapping[str, torch.Tensor], index: int) -> nn.Module:
    """One decoder layer's weights; ValueError where their shapes are not what ``config`` says."""
    width, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj": (queries, width),
        "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width),
        "self_attn.o_proj": (width, queries),
        "mlp.gate_proj": (inner, width),
        "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
        "input_layernorm": (width,),
        "post_attention_layernorm": (width,),
    }
    layer = nn.Module()
    layer.self_attn, layer.mlp = nn.Module(), nn.Module()
    layer.self_attn.head_dim = config.head_dim
    for name, shape in shapes.items():
        weight = weights[f"model.layers.{index}.{name}.weight"]
        if weight.shape != shape:
            raise ValueError(f"{name}: {tuple(weight.shape)} instead of {shape}")
        owner, _, leaf = name.rpartition(".")
        layer.get_submodule(owner).add_module(leaf, BareMap(weight) if owner else _Weight(weight))
    return layer
