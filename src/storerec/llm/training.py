"""One training loop for tokenizer and recommender: transformers' Trainer over our batches, with exact resume."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset
from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments

from storerec.errors import TrainingError
from storerec.llm import processes
from storerec.llm.averaging import Averaging
from storerec.llm.batching import BucketSampler
from storerec.llm.callbacks import Ending, Epochs, Finite, StepBar, Whole
from storerec.llm.checkpoints import has_ended, last_whole_checkpoint, point_to_best, take_ended
from storerec.llm.progress import Progress
from storerec.llm.quiet import quiet_transformers
from storerec.llm.sharded import ShardedLayers
from storerec.llm.trainable import TrainableModule
from storerec.llm.trainer import StoreTrainer
from storerec.llm.training_config import TrainingConfig
from storerec.storage import write_json


@processes.noticing_loss()
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
    sharded: bool = False,
) -> list[dict[str, float]]:
    """Train ``model`` in place, with checkpoints in ``folder``, and return the log (one dict per entry).

    Resumes from the newest checkpoint in ``folder`` if there is one: weights, optimizer, schedule, random states and
    the position in the data come back, so an interrupted run ends where an unbroken one would. With ``validate`` and
    ``metric`` (higher is better) the weights of the best validation are kept. Checkpoints are safetensors plus
    torch files of optimizer and random states, which are read with ``weights_only=True``.

    In several processes (:mod:`storerec.llm.processes`) all call this with the same arguments. Each batch of
    ``sampler`` is then cut into shares, and losses, gradients, steps and what is decided are those of one process with
    the whole batch, up to rounding; only dropout draws differently. The first process writes to ``folder``, which all
    must see. Training may be resumed by another number of processes. With ``sharded`` each process holds a part of the
    frozen decoder layers, see :mod:`storerec.llm.sharded`.

    Raises
    ------
    TrainingError: the loss is not finite, a checkpoint does not fit the model, or a process does not see ``folder``.
    LostProcessError: another of the processes has ended.
    ConfigError: ``sharded`` layers that are trained themselves.
    """
    last = processes.by_first(lambda: last_whole_checkpoint(folder))
    processes.together(lambda: _check_shared(folder))
    averaging = Averaging(model, config.average) if config.average is not None else None
    callbacks: list[TrainerCallback] = [averaging] if averaging else []  # before the mark that a checkpoint is whole
    shown = progress if processes.is_first() else Progress(enabled=False)
    callbacks += [Epochs(sampler, dataset), Whole(), Finite(label), StepBar(shown, label)]
    callbacks.append(Ending(config.max_minutes))
    if metric is not None and config.patience is not None:
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=config.patience))
    try:
        if last is not None and has_ended(last):
            log = take_ended(model, last)
        else:
            steps, validating = len(sampler), validate is not None
            arguments = _arguments(config, folder, steps, seed, device, validating=validating, metric=metric)
            log = _run(model, arguments, dataset, collate, sampler, validate, averaging, callbacks, last, sharded)
    except KeyError as error:
        raise TrainingError(f"{last}: {error.args[0]}; the run folder is of another configuration") from None
    model.requires_grad_(False).eval()
    if processes.is_first():
        write_json(folder / "log.json", log)
    processes.barrier()
    return log


def _run(
    model: TrainableModule,
    arguments: TrainingArguments,
    dataset: Dataset,
    collate: Callable[[list[Any]], dict[str, Any]],
    sampler: BucketSampler,
    validate: Callable[[], Mapping[str, float]] | None,
    averaging: Averaging | None,
    callbacks: list[TrainerCallback],
    last: Path | None,
    sharded: bool,
) -> list[dict[str, float]]:
    model.train_only_own()
    _synchronise_trained_only(model)
    layers = ShardedLayers(model) if sharded and processes.world() > 1 else None
    # the Trainer seeds all global generators, and sets the verbosity of all of transformers
    with _callers_randomness(), quiet_transformers(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)  # of views; nothing writes into one
        trainer = StoreTrainer(
            model=model,
            args=arguments,
            train_dataset=dataset,
            eval_dataset=dataset if validate is not None else None,  # the Trainer wants one; validate() is what runs
            data_collator=collate,
            sampler=sampler,
            validate=validate,
            averaging=averaging,
            whole=layers.whole if layers else nullcontext,
            callbacks=[*callbacks, layers] if layers else callbacks,
        )
        arguments._n_gpu = min(1, arguments.n_gpu)  # torch's DataParallel would replicate the whole backbone
        if last is not None:
            processes.by_first(lambda: point_to_best(last))
            if averaging:
                averaging.restore(last)
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        if averaging:  # the Trainer put back the best checkpoint's weights, not their average
            best = trainer.state.best_model_checkpoint if arguments.load_best_model_at_end else None
            if best:
                averaging.restore(Path(best))
            model.load_state_dict(averaging.average)
        if layers:
            layers.put_together()
    # the Trainer's closing summary is no point of the curve
    return [dict(entry) for entry in trainer.state.log_history if "train_runtime" not in entry]


def _check_shared(folder: Path) -> None:
    if not folder.is_dir():
        raise TrainingError(
            f"process {processes.rank()} of {processes.world()} does not see {folder.resolve()}; let all that train "
            "together see the run folder under the same path"
        )


@contextmanager
def _callers_randomness() -> Iterator[None]:
    """Give the caller's global random states back afterwards (GPU generators are torch's own affair)."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - the state, not a draw
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])


def _synchronise_trained_only(model: TrainableModule) -> None:
    """Let DistributedDataParallel leave alone what is frozen: it is the same everywhere, and large."""
    trained = {id(one) for one in model.parameters() if one.requires_grad}
    others = [name for name, one in model.named_parameters() if id(one) not in trained]
    others += [name for name, _ in model.named_buffers()]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, others)


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
        logging_nan_inf_filter=False,  # a loss that is no number must be seen
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
        ddp_find_unused_parameters=True,  # a batch of one task trains not all there is; what none used is not touched
        average_tokens_across_devices=False,  # storerec.llm.shares does
        dataloader_pin_memory=device.type == "cuda",
        log_level="error",
    )
