"""Frozen decoder layers of which each process holds a part while several train: torch's FSDP."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from storerec.errors import ConfigError
from storerec.llm import processes
from storerec.llm.layers import layer_list
from storerec.llm.trainable import TrainableModule


class ShardedLayers(TrainerCallback):
    """Cuts what is frozen in a model's decoder layers among the processes for the length of a training.

    Each layer is put together right before it computes, forward and backward, and given up again afterwards, so that
    beside its part of all layers a process holds one or two whole ones. Trained weights stay whole everywhere, with
    gradients averaged as without this; so do embeddings, heads and rows, which are read outside of the layers. What is
    computed is the same, bit for bit.

    The model's ``base`` is replaced by a twin with the same trained parameters while it trains; the weights of its own
    are empty meanwhile, and are filled from the parts in :meth:`whole` and at the end.

    Raises
    ------
    ConfigError: nothing in the layers is frozen.
    """

    def __init__(self, model: TrainableModule) -> None:
        self.model: Any = model
        self.base: nn.Module | None = getattr(model, "base", None)  # the language model, where there is one
        frozen = {} if self.base is None else self._frozen(self.base)
        if not frozen:
            raise ConfigError(
                "sharded: only frozen layers are held in parts, and this model trains all it has; set its tuning to "
                "'lora', or leave sharded out"
            )
        self.frozen, self.parts = frozen, dict[str, Any]()

    @staticmethod
    def _frozen(base: nn.Module) -> dict[str, nn.Parameter]:
        prefix, _ = layer_list(base)
        named = base.named_parameters()
        return {name: one for name, one in named if name.startswith(f"{prefix}.") and not one.requires_grad}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Cut them; DistributedDataParallel, which takes no model of parts, has been put around it."""
        self.twin = self._twin()
        self.parts = {name: one for name, one in self.twin.named_parameters() if name in self.frozen}
        self._give_up()

    def _twin(self) -> nn.Module:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        base: Any = self.base
        kept = [*base.parameters(), *base.buffers()]
        twin = copy.deepcopy(base, {id(one): one for one in kept})  # new modules around the same tensors
        mesh = init_device_mesh(next(base.parameters()).device.type, (processes.world(),))
        trained = {one for one in twin.parameters() if one.requires_grad}
        layers = layer_list(twin)[1]
        for layer in layers:
            fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=trained)
        inside = {id(one) for one in layers.parameters()}
        outside = {one for one in twin.parameters() if id(one) not in inside}
        # nothing more is cut: the root lets the layers fetch ahead of each other
        return fully_shard(twin, mesh=mesh, ignored_params=trained | outside)

    def _give_up(self) -> None:
        self.model.base = self.twin
        for one in self.frozen.values():
            one.data = one.data.new_empty(0)

    def put_together(self) -> None:
        """Fill the model's own layers again; all processes must call it."""
        for name, one in self.frozen.items():
            one.data = self.parts[name].full_tensor()
        self.model.base = self.base

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Let the model be whole in every process within the block, to be read as any other: in validation."""
        with torch.no_grad():
            self.put_together()
        yield
        self._give_up()
