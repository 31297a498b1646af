"""Several LoRA adapters on one backbone, through peft: adding, switching and merging them.

peft is imported where it is used: with transformers it takes seconds, and a bundle's weights may be read without both
(:mod:`storerec.llm.bare`).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from storerec.config import Config
from storerec.llm.bare import BareLlama
from storerec.llm.layers import depth, linear_names


class LoraConfig(Config):
    """A low-rank adapter."""

    rank: int = 32
    """Rank of the update."""

    alpha: float | None = None
    """Scale of the update is alpha / rank; none means 2 x rank."""

    dropout: float = 0.0
    """Dropout before the low-rank maps."""

    targets: Literal["attention", "all"] = "all"
    """Linear maps that get an update: those of attention, or all inside the decoder layers (the paper does not say)."""


def add_adapter(base: nn.Module, name: str, config: LoraConfig, *, layers: int | None = None, seed: int = 0) -> None:
    """Add adapter ``name`` to the first ``layers`` layers of ``base`` (all by default), inactive and frozen.

    Adding a name twice replaces nothing and is an error of peft; a new adapter changes no output, because LoRA's
    second map starts at zero.
    """
    alpha = config.alpha if config.alpha is not None else 2 * config.rank
    count, attention_only = layers or depth(base), config.targets == "attention"
    if isinstance(base, BareLlama):  # its factors are zero: they are loaded, not trained
        scale = alpha / config.rank
        base.add_adapter(name, rank=config.rank, scale=scale, layers=count, attention_only=attention_only)
        return
    from peft import LoraConfig as PeftLoraConfig
    from peft import inject_adapter_in_model

    names = linear_names(base, first=count, attention_only=attention_only)
    peft_config = PeftLoraConfig(
        r=config.rank,
        lora_alpha=alpha,  # type: ignore[arg-type]
        lora_dropout=config.dropout,
        # wrapped layers keep their name; peft matches suffixes, and full names match nothing else
        target_modules=names,
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # several adapters on one model are what we want, and for GPT-2's Conv1D peft corrects itself
        warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to False", UserWarning)
        torch.manual_seed(seed)
        inject_adapter_in_model(peft_config, base, adapter_name=name)
    weight = next(base.parameters())
    for parameter in adapter_parameters(base, name).values():
        parameter.data = parameter.data.to(weight.device, weight.dtype)
        parameter.requires_grad_(False)


def activate(base: nn.Module, names: Sequence[str], *, train: Sequence[str] = ()) -> None:
    """Let exactly the adapters ``names`` act (their updates add up) and only those in ``train`` collect gradients."""
    if isinstance(base, BareLlama):  # who reads it says each time which ones act
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in base.modules():
        if isinstance(module, BaseTunerLayer):
            present = [name for name in names if name in module._all_available_adapter_names()]
            module.enable_adapters(bool(present))
            if present:
                module.set_adapter(present)
    for key, parameter in base.named_parameters():
        if ".lora_" in key:
            parameter.requires_grad_(any(f".{name}." in key for name in train))


def adapter_parameters(base: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """Parameters of adapter ``name`` by their full name in ``base``."""
    return {key: p for key, p in base.named_parameters() if ".lora_" in key and f".{name}." in key}


def merge_into(base: nn.Module, names: Sequence[str]) -> None:
    """Add the updates of adapters ``names`` into the weights and drop all adapters, in place.

    Meant for a copy of the model: afterwards ``base`` has plain layers only.
    """
    if isinstance(base, BareLlama):
        base.merge_adapters(names)
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    for path, module in [(p, m) for p, m in base.named_modules() if isinstance(m, BaseTunerLayer)]:
        present = [name for name in names if name in module._all_available_adapter_names()]
        if present:
            module.merge(adapter_names=present)
        parent_name, _, leaf = path.rpartition(".")
        parent = base.get_submodule(parent_name) if parent_name else base
        setattr(parent, leaf, module.get_base_layer())
