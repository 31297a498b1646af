"""A module whose state is only what it trains, so that checkpoints stay small and hold no frozen backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


class TrainableModule(nn.Module):
    """Base of the models that wrap a frozen backbone.

    ``state_dict`` holds what :meth:`trained` and :meth:`kept` name and nothing else, and ``load_state_dict`` accepts
    exactly that. transformers' Trainer saves and restores checkpoints through these two.
    """

    def trained(self) -> dict[str, nn.Parameter]:
        """Parameters this module trains, by name."""
        raise NotImplementedError

    def kept(self) -> dict[str, nn.Parameter]:
        """Parameters that no training changes and that nothing else brings back, by name: they are saved too."""
        return {}

    def train_only_own(self) -> None:
        """Let gradients reach the trained parameters and no others."""
        self.requires_grad_(False)
        for parameter in self.trained().values():
            parameter.requires_grad_(True)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:  # type: ignore[override]
        """Copy-free view of the trained and kept parameters."""
        return {name: parameter.detach() for name, parameter in (self.trained() | self.kept()).items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Copy ``state_dict`` into these parameters; raises KeyError on a missing or unknown name."""
        own = self.trained() | self.kept()
        if set(own) != set(state_dict):
            odd = sorted(set(own) ^ set(state_dict))[:3]
            raise KeyError(f"state does not fit the model: {', '.join(odd)}")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(state_dict[name])
        return nn.modules.module._IncompatibleKeys([], [])
