"""Training the recommender against transformers' Trainer on the same histories.

    python -m benchmarks.recommender_training --out runs/bench

SmolLM2-135M with LoRA of rank 128 on all maps, four codes of 256, next item only, float32: one epoch over histories of
2 to 20 items, half of them of 4 or fewer. A history is one sequence and each item in it a target, in both ways: no
prefix is read twice.

Ours is ``storerec.llm.training.train``: batches of like length, the instruction read once a batch, outputs taken where
a target follows, rows of codes as the head. The other way (``plain_recommender``) has codes as words of the vocabulary
(49,152 + 1,024), random batches of the same number of histories, and logits over all words at all places. Where there
was a choice it is the one that is faster for the other way: a batch is padded to its own longest sequence, not to a
fixed length; of embedding and head only the codes' rows are trained (``modules_to_save`` would train 57.8 million more
numbers); nothing is masked.

Both start from the same weights and train the same parameters; loss and gradients are compared on one padded batch. A
row is the time from the first batch to the end of the last step, of one epoch, whatever ``--rounds`` says. With the
normaliser ``position`` the softmax is over the position's codes; with ``vocabulary`` over text and codes, the stock
loss, for which ours needs the text head at targets too. The bound counts operations of maps, adapters and heads.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import DataCollatorForSeq2Seq, TrainerCallback

from benchmarks import plain_recommender
from benchmarks.harness import arguments, row, write
from storerec.codes import CodeTable, CodeTree
from storerec.config import RunOptions
from storerec.data.histories import Histories
from storerec.llm.backbone import Backbone, BackboneConfig
from storerec.llm.batching import BucketSampler
from storerec.llm.progress import Bar, Progress
from storerec.llm.training import TrainingConfig, train
from storerec.recommender import Recommender, RecommenderConfig
from storerec.recommender.tasks import RecommenderSamples

ITEMS, CODES, POSITIONS, LONGEST = 2_000, 256, 4, 20
RATE = 5e-4


class Clock(TrainerCallback):
    """Seconds from the begin of training to the end of its last step, and the places of its batches."""

    def __init__(self) -> None:
        self.started, self.seconds, self.places = 0.0, 0.0, 0

    def counting(self, collate: Callable[[Any], Any], places: Callable[[Any], int]) -> Callable[[Any], Any]:
        """``collate`` with a count of ``places``."""

        def batch(chosen: Any) -> Any:
            made = collate(chosen)
            self.places += places(made)
            return made

        return batch

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start."""
        self.started = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """A step is done."""
        self.seconds = time.perf_counter() - self.started


class Timed(Progress):
    """A silent bar that moves a clock: ``train`` takes no callbacks, but tells its steps to a bar."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(enabled=False)
        self.clock = clock

    def start(self, *args: Any, **kwargs: Any) -> Bar:
        """Training begins."""
        self.clock.on_train_begin()
        return super().start(*args, **kwargs)

    def advance(self, bar: Bar, amount: int = 1) -> None:
        """A step is done."""
        self.clock.on_step_end()


def histories(users: int) -> tuple[Histories, CodeTable]:
    """Random items; lengths have a log-normal tail, cut at the longest history that is read."""
    rng = np.random.default_rng(0)
    codes = np.unique(rng.integers(0, CODES, (ITEMS, POSITIONS)), axis=0).astype(np.int32)  # a tuple is an item
    lengths = np.minimum(LONGEST, 2 + rng.lognormal(np.log(3.0), 1.0, users).astype(np.int64))
    items = rng.integers(0, len(codes), lengths.sum()).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    past = Histories.from_arrays([str(user) for user in range(users)], offsets, items)
    return past, CodeTable.build(codes, (CODES,) * POSITIONS)


def recommender(backbone: Backbone, table: CodeTable) -> Recommender:
    """One whose adapter has left its start."""
    config = RecommenderConfig(alignment=False, max_history=LONGEST)
    model = Recommender(backbone, config, CodeTree.from_table(table), None)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.trained().items():
        if "lora_B" in name:  # zero at first: gradients of the other factor would be zero too
            parameter.data = torch.randn(parameter.shape, generator=generator).to(parameter.device) * 0.01
    return model


def run(model: Recommender, samples: RecommenderSamples, batch: int, clock: Clock) -> None:
    """Train one epoch as the package does."""

    def places(made: dict[str, torch.Tensor]) -> int:
        rows, items = made["items"].shape
        return len(samples.instruction) + rows * (items * POSITIONS - 1)  # the last code is not read

    collate = clock.counting(samples.collate, places)
    sampler = BucketSampler(samples.lengths, samples.groups, [batch], seed=0)
    config = TrainingConfig(learning_rate=RATE, epochs=1)
    with tempfile.TemporaryDirectory() as folder:
        train(
            model, samples, collate, sampler, config, Path(folder), seed=0, label="", progress=Timed(clock),
            device=torch.device("cpu"),
        )  # fmt: skip


def compared(pairs: dict[str, tuple[nn.Parameter, nn.Parameter]], ours: torch.Tensor, plain: torch.Tensor) -> str:
    """How far two losses and their gradients are apart."""
    ours.backward()
    plain.backward()
    apart = {"code": 0.0, "lora": 0.0}
    for name, (own, other) in pairs.items():
        assert own.grad is not None, name
        assert other.grad is not None, name
        kind = "lora" if ".lora_" in name else "code"
        apart[kind] = max(apart[kind], float((own.grad - other.grad).norm() / other.grad.norm()))
        own.grad = other.grad = None
    loss = abs(ours.item() / plain.item() - 1)
    assert loss < 1e-4, (ours.item(), plain.item())
    return (
        f"losses differ by {loss:.0e}, gradients of code rows by {apart['code']:.0e} of their norm, "
        f"of adapters by {apart['lora']:.0e}"
    )


def operations(model: Recommender) -> tuple[int, int, int]:
    """Operations of a step: per token in the layers, per target over its position's codes, per place over all words.

    A frozen weight is in two products (forward, gradient of its input), a trained one in three.
    """
    adapters = sum(parameter.numel() for name, parameter in model.trained().items() if ".lora_" in name)
    maps = sum(p.numel() for name, p in model.base.named_parameters() if name.endswith("base_layer.weight"))
    width, text = model.backbone.width, model.backbone.word_embeddings.num_embeddings
    return 4 * maps + 6 * adapters, 6 * CODES * width, 4 * text * width + 6 * CODES * POSITIONS * width


def main() -> None:
    """Measure."""
    given = arguments(__doc__, histories=(64, "histories (64)"), batch=(16, "histories of a step (16)"))
    past, table = histories(given.histories)
    backbone = Backbone.load(BackboneConfig(), RunOptions(device="cpu"))
    whole = copy.deepcopy(backbone.model)
    model = recommender(backbone, table)
    config = model.settings
    tuned = plain_recommender.plain(whole, model)
    pairs = plain_recommender.twins(model, tuned)
    first = {name: own.detach().clone() for name, (own, _) in pairs.items()}
    instruction = backbone.encode([config.prompts.sequence], max_tokens=999, begin=True).flat
    samples = RecommenderSamples(past, (), instruction, config, seed=0)
    rows = plain_recommender.sequences(samples, table, backbone.word_embeddings.num_embeddings)
    pad = DataCollatorForSeq2Seq(backbone.tokenizer, label_pad_token_id=plain_recommender.IGNORED)
    targets = len(past.items) * POSITIONS
    layers, own, full = operations(model)

    def measure(normaliser: Any, loss: Any, head: int) -> dict[str, Any]:
        model.settings = config.model_copy(update={"normaliser": normaliser})
        model.train_only_own()
        for name, both in pairs.items():
            for parameter in both:
                parameter.data.copy_(first[name])
        some = list(range(8))
        padded = pad([rows[number] for number in some])
        out = tuned(**padded)
        plain_loss = loss(out, padded["labels"]) if loss else out.loss
        same = compared(pairs, model(**samples.collate(some))["loss"], plain_loss)
        ours, plain = Clock(), Clock()
        run(model, samples, given.batch, ours)
        collate = plain.counting(pad, lambda made: made["input_ids"].numel())
        plain_recommender.run(tuned, rows, collate, given.batch, RATE, loss, plain)
        counted = (
            f"{plain.places:,} places x ({layers / 1e6:.0f} + {full / 1e6:.0f}) MFLOP of layers and head / "
            f"({ours.places:,} places x {layers / 1e6:.0f} + {targets:,} targets x {head / 1e6:.1f})"
        )
        bound = plain.places * (layers + full) / (ours.places * layers + targets * head)
        return row(
            f"recommender training, normaliser {normaliser}", ours.seconds, plain.seconds, bound=bound,
            counted=counted, goal=2.0, same=same, histories_per_second=given.histories / ours.seconds,
            places=[ours.places, plain.places],
        )  # fmt: skip

    lines = [
        measure("position", plain_recommender.PositionLoss(POSITIONS, CODES), own),
        measure("vocabulary", None, full),
    ]
    filled = int((past.lengths * POSITIONS + len(instruction)).sum())
    write("recommender_training", given, lines, histories=given.histories, batch=given.batch, filled=filled)


if __name__ == "__main__":
    main()
