"""Reaching the decoder layers of any causal model: their list, their linear maps, and a model of the first L."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import nn

from storerec.errors import BackboneError


def layer_list(base: nn.Module) -> tuple[str, nn.ModuleList]:
    """Name and list of the decoder layers (``layers``, ``decoder.layers``, ``h``): as many as the config says."""
    lists = [(name, module) for name, module in base.named_modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise BackboneError(f"{type(base).__name__}: no list of decoder layers found; this model cannot be a backbone")
    depth = base.config.num_hidden_layers  # type: ignore[union-attr]
    exact = [pair for pair in lists if len(pair[1]) == depth]
    return (exact or lists)[0]


def depth(base: nn.Module) -> int:
    """Number of decoder layers."""
    return len(layer_list(base)[1])


def linear_names(base: nn.Module, *, first: int, attention_only: bool) -> list[str]:
    """Full names of the linear maps inside the first ``first`` layers, for adapters.

    ``attention_only`` keeps those under a module whose name holds ``attn`` or ``attention``.
    """
    # not with this module: inference reads weights without peft and transformers, which take seconds to import
    from peft.tuners.tuners_utils import BaseTunerLayer
    from transformers.pytorch_utils import Conv1D

    prefix, layers = layer_list(base)
    names = []
    for index in range(min(first, len(layers))):
        adapted = [name for name, module in layers[index].named_modules() if isinstance(module, BaseTunerLayer)]
        plain = [
            name
            for name, module in layers[index].named_modules()
            # the maps inside an adapted one are its base layer and its low-rank factors
            if isinstance(module, nn.Linear | Conv1D) and not any(name.startswith(f"{a}.") for a in adapted)
        ]
        names += [
            f"{prefix}.{index}.{name}" for name in adapted + plain if not attention_only or "att" in name.split(".")[0]
        ]
    if not names:
        raise BackboneError(f"{type(base).__name__}: no linear maps found in its layers for adapters")
    return names


def first_layers(base: nn.Module, count: int) -> nn.Module:
    """A model that runs only the first ``count`` layers of ``base`` and shares all its modules and weights."""
    prefix, layers = layer_list(base)
    if count >= len(layers):
        return base
    return _with_layers(base, prefix.split("."), nn.ModuleList(layers[i] for i in range(count)))


def _with_layers(module: nn.Module, path: list[str], layers: nn.ModuleList) -> nn.Module:
    """Shallow copies along ``path``, the last replaced: nothing of ``module`` itself changes."""
    twin = copy.copy(module)
    twin.__dict__["_modules"] = dict(module._modules)
    child = layers if len(path) == 1 else _with_layers(module._modules[path[0]], path[1:], layers)  # type: ignore[arg-type]
    twin._modules[path[0]] = child
    if hasattr(getattr(twin, "config", None), "num_hidden_layers"):  # OPT's model and its decoder both have one
        twin.config = copy.deepcopy(twin.config)
        shorten(twin.config, len(layers))
    return twin


def shorten(config: object, count: int) -> None:
    """Let a copied model config describe ``count`` layers (caches and layer types are sized by it)."""
    types = getattr(config, "layer_types", None)
    if types is not None:
        config.layer_types = list(types)[:count]  # type: ignore[attr-defined]
    config.num_hidden_layers = count  # type: ignore[attr-defined]


_UPDATES = ("self_attn", "attn", "attention", "mlp", "fc2")
"""Modules of a layer whose outputs are added to the vectors that pass through it, by the names families give them."""


@contextmanager
def dropped_updates(base: nn.Module, rate: float) -> Iterator[None]:
    """Inside the block, drop ``rate`` of what attention and feed-forward map of every layer add.

    Many families have no such dropout of their own (Llama, Qwen). The hooks leave with the block, since the layers may
    be shared with another model.

    Raises
    ------
    BackboneError: the layers have no two modules known to be added.
    """
    if not rate:
        yield
        return

    def drop(module: nn.Module, inputs: Any, output: Any) -> Any:
        first = output[0] if isinstance(output, tuple) else output
        dropped = F.dropout(first, rate, training=True)
        return (dropped, *output[1:]) if isinstance(output, tuple) else dropped

    hooks = []
    try:
        for layer in layer_list(base)[1]:
            updates = [module for name, module in layer.named_children() if name in _UPDATES]
            if len(updates) != 2:
                raise BackboneError(
                    f"{type(base).__name__}: its layers' attention and feed-forward map were not found; "
                    "set recommender.residual_dropout to 0"
                )
            hooks += [module.register_forward_hook(drop) for module in updates]
        yield
    finally:
        for hook in hooks:
            hook.remove()
