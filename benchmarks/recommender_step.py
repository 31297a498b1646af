"""Where one training step of the recommender goes, in milliseconds; docs/performance.md cites it.

    python -m benchmarks.recommender_step

Five steps of ``storerec.llm.training.train`` over 16 histories of 6 items each, the first not counted.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from benchmarks.harness import arguments
from benchmarks.recommender_training import POSITIONS, Clock, histories, recommender, run
from storerec.config import RunOptions
from storerec.data.histories import Histories
from storerec.llm.backbone import Backbone, BackboneConfig
from storerec.recommender import Recommender
from storerec.recommender.tasks import RecommenderSamples

BATCH, LENGTH, STEPS = 16, 6, 5


class Marks:
    """Points in time; each gives the time since the one before it a name."""

    def __init__(self) -> None:
        self.made: list[tuple[str, float]] = []

    def __call__(self, name: str) -> Any:
        """A hook, of any signature, that makes a point."""

        def hook(*args: Any, **kwargs: Any) -> None:
            self.made.append((name, time.perf_counter()))

        return hook

    def told(self) -> dict[str, float]:
        """Milliseconds a step by name, from the end of the first step to the end of the last."""
        ends = [place for place, (name, _) in enumerate(self.made) if name == "optimizer"]
        spent: dict[str, float] = defaultdict(float)
        for place in range(ends[0] + 1, ends[-1] + 1):
            name, then = self.made[place]
            spent[name] += 1e3 * (then - self.made[place - 1][1]) / (len(ends) - 1)
        return dict(spent)


def watch(model: Recommender, marks: Marks) -> None:
    """Hang marks on the parts of a step."""

    def entered(gradient: torch.Tensor) -> None:  # the layers run twice, for the instruction and for what follows
        if marks.made[-1][0] == "head, forward":
            marks("head, backward")()

    model.train_only_own()  # a hook on a gradient needs one
    model.register_forward_pre_hook(marks("Trainer"))
    model.base.register_forward_pre_hook(marks("input vectors"))
    model.base.register_forward_hook(marks("layers, forward"))
    model.base.register_forward_hook(lambda module, inputs, out: out.last_hidden_state.register_hook(entered) and None)
    model.register_forward_hook(marks("head, forward"))
    for name, parameter in model.trained().items():
        if name != "own_outputs":
            parameter.register_post_accumulate_grad_hook(marks("layers, backward"))
    register_optimizer_step_pre_hook(marks("clipping"))
    register_optimizer_step_post_hook(marks("optimizer"))


def main() -> None:
    """Measure and print."""
    arguments(__doc__)
    _, table = histories(2)
    backbone = Backbone.load(BackboneConfig(), RunOptions(device="cpu"))
    model, marks = recommender(backbone, table), Marks()
    model.settings = model.settings.model_copy(update={"normaliser": "position"})
    users = BATCH * STEPS
    items = np.random.default_rng(0).integers(0, len(table), users * LENGTH).astype(np.int32)
    past = Histories.from_arrays([str(user) for user in range(users)], np.arange(users + 1) * LENGTH, items)
    instruction = backbone.encode([model.settings.prompts.sequence], max_tokens=999, begin=True).flat
    watch(model, marks)
    run(model, RecommenderSamples(past, (), instruction, model.settings, seed=0), BATCH, Clock())
    print(f"{len(instruction) + BATCH * (LENGTH * POSITIONS - 1)} places a step")
    for name, spent in marks.told().items():
        print(f"{name:20} {spent:8.1f} ms")


if __name__ == "__main__":
    main()
