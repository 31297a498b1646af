"""One training loop for tokenizer and recommender: transformers' Trainer over our batches, with exact resume."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from storerec.config import Config
from storerec.errors import TrainingError
from storerec.llm.batching import BucketSampler
from storerec.llm.progress import Bar, Progress
from storerec.llm.trainable import TrainableModule

_WHOLE = "whole"


class TrainingConfig(Config):
    """How long and how fast to train."""

    epochs: float = 10
    """Passes over the data at most."""

    max_steps: int | None = None
    """Optimizer steps at most, over epochs if given."""

    max_minutes: float | None = None
    """Wall-clock budget: training ends at the first step past it (a resumed run counts anew). None sets no budget;
    with one, the result depends on the machine's speed."""

    learning_rate: float = 1e-4
    """Peak learning rate."""

    warmup: float = 0.03
    """Share of the steps over which the learning rate rises."""

    schedule: str = "linear"
    """A transformers schedule name: linear, cosine, constant_with_warmup, ..."""

    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW; 0 is Adam, as in the paper)."""

    adam_beta2: float = 0.999
    """Adam's second-moment decay."""

    max_grad_norm: float = 1.0
    """Gradient clipping."""

    checkpoint_steps: int | None = None
    """Steps between checkpoints; none makes one an epoch."""

    patience: int | None = None
    """Validations without improvement before training stops; none validates but never stops early."""


class EpochDataset(Protocol):
    """A map-style dataset that may draw its samples anew each epoch, fixed by (seed, epoch)."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch."""
        ...

    def __getitem__(self, index: int) -> Any:
        """One sample."""
        ...


class StoreTrainer(Trainer):
    """transformers' Trainer with our batch sampler and a validation function instead of an evaluation loop."""

    def __init__(
        self,
        *args: Any,
        sampler: BucketSampler,
        validate: Callable[[], Mapping[str, float]] | None = None,
        **kwargs: Any,
    ) -> None:
        self._sampler, self._validate = sampler, validate
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
        with torch.no_grad():
            metrics = {f"eval_{name}": float(value) for name, value in self._validate().items()}
        self.model.train()  # type: ignore[union-attr]
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class _Epochs(TrainerCallback):
    """Tells sampler and dataset the epoch before it starts, also after a resume."""

    def __init__(self, sampler: BucketSampler, dataset: Any) -> None:
        self.sampler, self.dataset = sampler, dataset

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        epoch = state.global_step // len(self.sampler)
        self.sampler.set_epoch(epoch)
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)


class _Whole(TrainerCallback):
    """Marks a checkpoint once all its files are written: a kill in the middle leaves one without the mark."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _WHOLE).touch()


class _Budget(TrainerCallback):
    """Stops at the first step past the wall-clock budget, after a last checkpoint and validation."""

    def __init__(self, minutes: float) -> None:
        self.minutes, self.started = minutes, time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if time.monotonic() - self.started > 60 * self.minutes:
            control.should_training_stop = True
            control.should_save = True
            control.should_evaluate = args.eval_strategy != "no"


class _Bar(TrainerCallback):
    """Feeds the progress bar: steps, loss and the last validation."""

    def __init__(self, progress: Progress, label: str) -> None:
        self.progress, self.label = progress, label
        self.bar, self.notes = Bar(label, 0, "step", 0), dict[str, str]()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar = self.progress.start(self.label, state.max_steps, done=state.global_step, unit="step")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress.advance(self.bar)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        for key, value in (logs or {}).items():
            if key == "loss" or key.startswith("eval_"):
                self.notes[key.removeprefix("eval_")] = f"{key.removeprefix('eval_')} {value:.4f}"
        self.progress.note(self.bar, ", ".join(self.notes.values()))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress.finish(self.bar)


def train(
    model: TrainableModule,
    dataset: Dataset,
    collate: Callable[[list[Any]], dict[str, Any]],
    sampler: BucketSampler,
    config: TrainingConfig,
    folder: Path,
    *,
    seed: int,
    label: str,
    progress: Progress,
    device: torch.device,
    validate: Callable[[], Mapping[str, float]] | None = None,
    metric: str | None = None,
) -> list[dict[str, float]]:
    """Train ``model`` in place, with checkpoints in ``folder``, and return the log (one dict per entry).

    Resumes from the newest checkpoint in ``folder`` if there is one: weights, optimizer, schedule, random states and
    the position in the data come back, so an interrupted run ends where an unbroken one would. With ``validate`` and
    ``metric`` (higher is better) the weights of the best validation are kept. Checkpoints are safetensors plus
    torch files of optimizer and random states, which are read with ``weights_only=True``.

    Raises
    ------
    TrainingError: the loss is not finite, or a checkpoint does not fit the model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.train_only_own()
    arguments = _arguments(config, folder, len(sampler), seed, device, validating=validate is not None, metric=metric)
    trainer = StoreTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        eval_dataset=dataset if validate is not None else None,  # the Trainer wants one; validate() is what runs
        data_collator=collate,
        sampler=sampler,
        validate=validate,
        callbacks=_callbacks(config, sampler, dataset, progress, label, validating=validate is not None),
    )
    last = _last_whole_checkpoint(folder)
    try:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    except KeyError as error:
        raise TrainingError(f"{last}: {error.args[0]}; the run folder is of another configuration") from None
    model.requires_grad_(False).eval()
    log = [dict(entry) for entry in trainer.state.log_history]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    if losses and not math.isfinite(losses[-1]):
        raise TrainingError(f"{label}: the loss is {losses[-1]}; lower the learning rate")
    (folder / "log.json").write_text(json.dumps(log, indent=1), encoding="utf-8")
    return log


def _last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; half-written ones are deleted."""
    for checkpoint in folder.glob("checkpoint-*"):
        if not (checkpoint / _WHOLE).exists():
            shutil.rmtree(checkpoint)
    whole = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    return whole[-1] if whole else None


def _callbacks(
    config: TrainingConfig,
    sampler: BucketSampler,
    dataset: Any,
    progress: Progress,
    label: str,
    *,
    validating: bool,
) -> list[TrainerCallback]:
    callbacks: list[TrainerCallback] = [_Epochs(sampler, dataset), _Whole(), _Bar(progress, label)]
    if config.max_minutes is not None:
        callbacks.append(_Budget(config.max_minutes))
    if validating and config.patience is not None:
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=config.patience))
    return callbacks


def _arguments(
    config: TrainingConfig,
    folder: Path,
    steps_per_epoch: int,
    seed: int,
    device: torch.device,
    *,
    validating: bool,
    metric: str | None,
) -> TrainingArguments:
    total = config.max_steps or math.ceil(config.epochs * steps_per_epoch)
    every = config.checkpoint_steps or steps_per_epoch
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=total,
        learning_rate=config.learning_rate,
        warmup_steps=int(config.warmup * total),
        lr_scheduler_type=config.schedule,
        weight_decay=config.weight_decay,
        adam_beta2=config.adam_beta2,
        max_grad_norm=config.max_grad_norm,
        logging_steps=max(1, min(10, total // 20)),
        save_strategy="steps",
        save_steps=every,
        eval_strategy="steps" if validating else "no",
        eval_steps=every if validating else None,
        load_best_model_at_end=validating and metric is not None,
        metric_for_best_model=f"eval_{metric}" if metric else None,
        greater_is_better=True if metric else None,
        save_total_limit=2,
        restore_callback_states_from_checkpoint=True,  # early stopping goes on counting after a resume
        seed=seed,
        use_cpu=device.type == "cpu",
        disable_tqdm=True,
        report_to="none",
        remove_unused_columns=False,
        label_names=[],
        dataloader_pin_memory=device.type == "cuda",
        log_level="error",
    )
