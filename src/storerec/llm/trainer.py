"""transformers' Trainer with our batches and our validation, in one process or in several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import Trainer, set_seed
from transformers.trainer_callback import PrinterCallback

from storerec.llm import processes
from storerec.llm.averaging import Averaging
from storerec.llm.batching import BucketSampler
from storerec.llm.shares import COUNTS, Shares, sharing


class StoreTrainer(Trainer):
    """transformers' Trainer with our batch sampler and a validation function instead of an evaluation loop.

    In several processes each computes its share of every batch, and torch's DistributedDataParallel averages the
    gradients. All draw what they drop in training differently: from the seed plus their number.

    Parameters
    ----------
    sampler: of whole batches, in each process.
    validate: gives the metrics; in several processes the first one's are taken in all.
    whole: what has to be in force while ``validate`` reads the model.
    """

    def __init__(
        self,
        *args: Any,
        sampler: BucketSampler,
        validate: Callable[[], Mapping[str, float]] | None = None,
        averaging: Averaging | None = None,
        whole: Callable[[], AbstractContextManager] = nullcontext,
        **kwargs: Any,
    ) -> None:
        self._sampler, self._validate, self._averaging, self._whole = sampler, validate, averaging, whole
        super().__init__(*args, **kwargs)
        self.remove_callback(PrinterCallback)
        if processes.rank():  # the Trainer has set the seed itself
            set_seed(self.args.seed + processes.rank())

    def get_train_dataloader(self) -> DataLoader:
        """Batches of ``sampler``, moved to the device by accelerate, or by the Trainer where they are shares.

        accelerate would cut what it is given among the processes once more.
        """
        if processes.world() > 1:
            shares = Shares(self.train_dataset, self.data_collator)
            return DataLoader(shares, batch_sampler=self._sampler, collate_fn=lambda share: share)  # type: ignore[arg-type]
        loader = DataLoader(self.train_dataset, batch_sampler=self._sampler, collate_fn=self.data_collator)  # type: ignore[arg-type]
        return self.accelerator.prepare(loader)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The loss; of a share, what makes the average over the processes the loss of the batch."""
        if COUNTS not in inputs:
            return super().compute_loss(model, inputs, *args, **kwargs)
        with sharing(inputs.pop(COUNTS)):
            return model(**inputs)["loss"]

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Random states of a checkpoint, or drawn anew where another number of processes had made it.

        New ones follow from the seed, the step and this process's number, so that resuming twice gives the same.
        """
        name = f"rng_state_{processes.rank()}.pth" if processes.world() > 1 else "rng_state.pth"
        if checkpoint is None or (Path(checkpoint) / name).is_file():
            super()._load_rng_state(checkpoint)
            return
        drawn = np.random.SeedSequence([self.args.seed, self.state.global_step, processes.rank()]).generate_state(1)
        set_seed(int(drawn[0]))

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Run the validation function; its metrics are logged as ``eval_<name>``."""
        assert self._validate is not None
        self.model.eval()  # type: ignore[union-attr]
        averaged = self._averaging.applied() if self._averaging else nullcontext()
        with torch.no_grad(), self._whole(), averaged:
            metrics = {f"eval_{name}": float(value) for name, value in self._validate().items()}
        metrics = processes.broadcast(metrics)  # what is decided by them must be decided alike
        self.model.train()  # type: ignore[union-attr]
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics
