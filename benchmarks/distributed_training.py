"""Training of tokenizer and recommender by one process of one thread and by two of one thread each, gloo between them.

    python -m benchmarks.distributed_training --out docs/results/cluster

SmolLM2-135M in float32 with the same global batches, learning rate and seeds, without dropout. Times are of a step,
from the end of the first to the end of the last; the runs take turns. Two cores allow twice the speed. Two processes
that each train on half of a batch and do not talk show what this machine allows, whose cores share caches and memory.

``apart`` is the largest difference between the losses of any step, over the loss. The trainings are done once more in
float64, without times: in float32 the first steps of Adam, which divides by roots of second moments near zero, make
rounding visible, and in float64 it is no excuse. Losses are logged in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.encoding import catalogue as titles
from benchmarks.harness import arguments, row, write
from storerec.codes import CodeTable
from storerec.config import RunOptions
from storerec.data.histories import Histories
from storerec.data.splits import leave_one_out
from storerec.llm import processes
from storerec.llm.backbone import Backbone, BackboneConfig
from storerec.llm.progress import Bar, Progress
from storerec.recommender import RecommenderConfig, train_recommender
from storerec.storage import write_json
from storerec.tokenizer import TokenizerConfig, train_tokenizer

ITEMS, CODES, POSITIONS, LONGEST = 400, 64, 4, 12
KINDS = ("tokenizer", "recommender")


class Clock(Progress):
    """A silent bar that notes when steps end."""

    def __init__(self) -> None:
        super().__init__(enabled=False)
        self.ends: list[float] = []

    def advance(self, bar: Bar, amount: int = 1) -> None:
        """A step is done."""
        super().advance(bar, amount)
        self.ends.append(time.perf_counter())


def trained(kind: str, steps: int, batch: int, options: RunOptions, clock: Clock, folder: Path) -> list[dict[str, Any]]:
    """Train; the log."""
    catalogue, backbone = titles(ITEMS), Backbone.load(BackboneConfig(), options)
    training = {"max_steps": steps, "learning_rate": 1e-4, "checkpoint_steps": 10 * steps}
    if kind == "tokenizer":
        config = TokenizerConfig.parse({"batch_items": batch, "training": training})
        return train_tokenizer(catalogue, backbone, config, folder, options, clock)[1]
    rng = np.random.default_rng(0)
    lengths = rng.integers(4, LONGEST + 1, 20 * batch)
    rows = rng.integers(0, ITEMS, lengths.sum()).astype(np.int32)
    past = Histories.from_arrays([str(i) for i in range(len(lengths))], np.append(0, np.cumsum(lengths)), rows)
    codes = np.unique(rng.integers(0, CODES, (4 * ITEMS, POSITIONS)), axis=0)[:ITEMS].astype(np.int32)
    settings = {"max_history": LONGEST, "alignment": False, "batch_size": batch, "alone": training, "dropout": 0.0}
    split = leave_one_out(past)
    split = replace(split, validation=split.validation.select(np.arange(0)))  # it would stand among the steps
    table = CodeTable.build(codes, (CODES,) * POSITIONS)
    config = RecommenderConfig.parse(settings)
    return train_recommender(catalogue, split, table, None, backbone, config, folder, options, clock)[1]["alone"]


def child(given: argparse.Namespace) -> None:
    """One of the processes that are compared: trains, and the first one writes times and losses."""
    options = RunOptions(device="cpu", dtype=given.dtype, inference_dtype=given.dtype, progress=False)
    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
        place = processes.broadcast(scratch)
        log = trained(given.child, given.steps, given.batch, options, clock, Path(place))
        processes.barrier()
    if processes.is_first():
        spent = (clock.ends[-1] - clock.ends[0]) / (len(clock.ends) - 1)
        losses = [entry["loss"] for entry in log if "loss" in entry]
        write_json(Path(given.result), {"seconds": spent, "losses": losses, "processes": processes.world()})
    processes.leave()
    processes.end(0)


def launched(kind: str, given: argparse.Namespace, result: Path, *, batch: int, dtype: str, count: int) -> Any:
    """Start ``count`` processes of one thread each that train together."""
    how = ["--child", kind, "--steps", str(given.steps), "--batch", str(batch), "--dtype", dtype, "--result", result]
    together = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)] if count > 1 else []
    command = [sys.executable, *together, "-m", "benchmarks.distributed_training", *map(str, how)]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"})


def ended(started: list[Any], results: list[Path]) -> list[dict[str, Any]]:
    """What they wrote, once all have ended."""
    for one in started:
        if one.wait():
            raise SystemExit(f"a training ended with code {one.returncode}")
    return [json.loads(result.read_text()) for result in results]


def one_turn(kind: str, given: argparse.Namespace, folder: Path, dtype: str) -> dict[str, dict[str, Any]]:
    """One process, two together and, where times count, two that do not talk."""
    found = {}
    for name, count in (("one", 1), ("two", 2)):
        place = folder / f"{name}.json"
        found[name] = ended([launched(kind, given, place, batch=given.batch, dtype=dtype, count=count)], [place])[0]
    if dtype == "float32":
        places = [folder / f"half-{number}.json" for number in range(2)]
        halves = [launched(kind, given, place, batch=given.batch // 2, dtype=dtype, count=1) for place in places]
        found["halves"] = {"seconds": max(one["seconds"] for one in ended(halves, places))}
    return found


def largest(found: dict[str, dict[str, Any]]) -> float:
    """Largest difference of a step's losses, over the loss."""
    pairs = zip(found["one"]["losses"], found["two"]["losses"], strict=True)
    return max(abs(one - two) / one for one, two in pairs)


def compared(kind: str, given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One kind of training, in turns."""
    turns = [one_turn(kind, given, folder, "float32") for _ in range(given.rounds)]
    one, two, halves = (median(turn[name]["seconds"] for turn in turns) for name in ("one", "two", "halves"))
    double = largest(one_turn(kind, given, folder, "float64")) if given.double else None
    apart = max(largest(turn) for turn in turns)
    told = f"losses of {given.steps} steps differ by {apart:.1e} of the loss at most"
    return row(
        f"{kind} training, two processes", two, one, bound=2.0, goal=1.7,
        counted="two cores; each process makes half of every batch", same=told + (
            f", in float64 by {double:.1e}" if double is not None else ""
        ),
        without_talking={"seconds": halves, "ratio": one / halves}, apart=apart, apart_in_float64=double,
        losses={"one": turns[0]["one"]["losses"], "two": turns[0]["two"]["losses"]},
        rounds=[{name: turn[name]["seconds"] for name in turn} for turn in turns],
    )  # fmt: skip


def main() -> None:
    """Measure."""
    given = arguments(
        __doc__, steps=(8, "optimizer steps (8)"), batch=(24, "items or users of a step (24)"),
        double=(1, "compare the losses in float64, too; 0 leaves it out (1)"),
        child=("", "what a process of the comparison trains"), dtype=("float32", "its arithmetic"),
        result=("", "where it writes"),
    )  # fmt: skip
    if given.child:
        child(given)
        return
    with tempfile.TemporaryDirectory() as scratch:
        lines = [compared(kind, given, Path(scratch)) for kind in KINDS]
    write("distributed_training", given, lines, steps=given.steps, batch=given.batch)


if __name__ == "__main__":
    main()
