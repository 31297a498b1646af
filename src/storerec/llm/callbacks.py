"""What happens around training steps: epochs are told, checkpoints marked, budgets kept, bars fed."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from storerec.errors import TrainingError
from storerec.llm import processes
from storerec.llm.batching import BucketSampler
from storerec.llm.progress import Bar, Progress

WHOLE = "whole"
"""File that marks a checkpoint as written to its end."""

ENDED = "ended"
"""What stands in it when training was over with that checkpoint."""


class Epochs(TrainerCallback):
    """Tells sampler and dataset the epoch before it starts, also after a resume."""

    def __init__(self, sampler: BucketSampler, dataset: Any) -> None:
        self.sampler, self.dataset = sampler, dataset

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the epoch by the steps made."""
        epoch = state.global_step // len(self.sampler)
        self.sampler.set_epoch(epoch)
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)


class Whole(TrainerCallback):
    """Marks a checkpoint once all its files are written: a kill in the middle leaves one without the mark.

    Of several processes each writes its random states, and the first one the rest.
    """

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Mark it, and say in the mark whether training is over."""
        processes.barrier()
        if processes.is_first():
            mark = Path(args.output_dir) / f"checkpoint-{state.global_step}" / WHOLE
            mark.write_text(ENDED if control.should_training_stop else "", encoding="utf-8")
        processes.barrier()


class Finite(TrainerCallback):
    """Raises TrainingError at the first logged loss that is no number."""

    def __init__(self, label: str) -> None:
        self.label = label

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Look at the loss."""
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            raise TrainingError(
                f"{self.label}: the loss is {loss} at step {state.global_step}; lower the learning rate"
            )


class Ending(TrainerCallback):
    """Makes the first step past the wall-clock budget, if there is one, the last; it is validated and saved."""

    def __init__(self, minutes: float | None) -> None:
        self.minutes, self.started = minutes, time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for the end, a checkpoint and a validation."""
        if self.minutes is None:
            return
        if processes.broadcast(time.monotonic() - self.started > 60 * self.minutes):
            control.should_training_stop = True
            control.should_save = True
            control.should_evaluate = args.eval_strategy != "no"


class StepBar(TrainerCallback):
    """Feeds the progress bar: steps, loss and the last validation."""

    def __init__(self, progress: Progress, label: str) -> None:
        self.progress, self.label = progress, label
        self.bar, self.notes = Bar(label, 0, "step", 0), dict[str, str]()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar."""
        self.bar = self.progress.start(self.label, state.max_steps, done=state.global_step, unit="step")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move it on."""
        self.progress.advance(self.bar)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Note what was logged."""
        for key, value in (logs or {}).items():
            if key == "loss" or key.startswith("eval_"):
                self.notes[key.removeprefix("eval_")] = f"{key.removeprefix('eval_')} {value:.4f}"
        self.progress.note(self.bar, ", ".join(self.notes.values()))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End it."""
        self.progress.finish(self.bar)
