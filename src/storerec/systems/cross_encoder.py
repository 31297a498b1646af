"""A BERT-style encoder with a head of one logit over pairs of texts."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from storerec.llm.precision import arithmetic
from storerec.llm.shares import whole_mean
from storerec.llm.trainable import TrainableModule


class CrossEncoder(TrainableModule):
    """``[CLS] history [SEP] candidate [SEP]`` to one logit, from the output at [CLS]; all weights are trained."""

    def __init__(self, encoder: Any, tokenizer: Any, *, seed: int = 0) -> None:
        super().__init__()
        self.encoder, self.tokenizer = encoder, tokenizer
        width = int(encoder.config.hidden_size)
        drawn = torch.randn(width, generator=torch.Generator().manual_seed(seed)) * 0.02  # as BERT starts its maps
        self.weight = nn.Parameter(drawn.to(encoder.device))
        self.bias = nn.Parameter(torch.zeros((), device=encoder.device))
        self.types = getattr(encoder.config, "type_vocab_size", 0) > 1
        self.compute_dtype = torch.float32
        self.eval()  # modules are made in training mode, and the encoder's dropout must not act

    def trained(self) -> dict[str, nn.Parameter]:
        """All of the encoder but its pooler, which nothing reads, and the head."""
        layers = {f"encoder.{name}": p for name, p in self.encoder.named_parameters() if not name.startswith("pooler.")}
        return layers | {"weight": self.weight, "bias": self.bias}

    def states(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Last hidden states (rows, longest, width) of token ids with their masks."""
        device = self.encoder.device
        read = {name: x.to(device) for name, x in batch.items() if self.types or name != "token_type_ids"}
        with arithmetic(self.compute_dtype, device):
            return self.encoder(**read).last_hidden_state.float()

    def logits(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """(rows,) log-odds of a click."""
        return self.states(batch)[:, 0] @ self.weight + self.bias

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
        labels: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Mean binary cross-entropy over pairs; ``labels`` (rows,) bool."""
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        logits = self.logits(batch)
        loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits))
        return {"loss": whole_mean(loss, len(labels))}
