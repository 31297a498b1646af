"""transformers' Trainer with our batches and our validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_callback import PrinterCallback

from storerec.llm.averaging import Averaging
from storerec.llm.batching import BucketSampler


class StoreTrainer(Trainer):
    """transformers' Trainer with our batch sampler and a validation function instead of an evaluation loop."""

    def __init__(
        self,
        *args: Any,
        sampler: BucketSampler,
        validate: Callable[[], Mapping[str, float]] | None = None,
        averaging: Averaging | None = None,
        **kwargs: Any,
    ) -> None:
        self._sampler, self._validate, self._averaging = sampler, validate, averaging
        super().__init__(*args, **kwargs)
        self.remove_callback(PrinterCallback)

    def get_train_dataloader(self) -> DataLoader:
        """Batches of ``sampler``; accelerate moves them to the device."""
        loader = DataLoader(self.train_dataset, batch_sampler=self._sampler, collate_fn=self.data_collator)  # type: ignore[arg-type]
        return self.accelerator.prepare(loader)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Run the validation function; its metrics are logged as ``eval_<name>``."""
        assert self._validate is not None
        self.model.eval()  # type: ignore[union-attr]
        with torch.no_grad(), self._averaging.applied() if self._averaging else nullcontext():
            metrics = {f"eval_{name}": float(value) for name, value in self._validate().items()}
        self.model.train()  # type: ignore[union-attr]
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics
