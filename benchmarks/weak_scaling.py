"""Weak scaling of encoding: one worker with so many items, then two with twice as many.

    python -m benchmarks.weak_scaling --out docs/results/cluster

SmolLM2-135M through Ray Data's actors, one thread each. Seconds are between the first and the last chunk that came
back, so that starting Ray and loading the model do not count; each worker has the same number of chunks. Ideal is 1.0:
twice the items in the same time. Two plain processes that do the same without Ray show what the machine itself allows.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.encoding import catalogue as titles
from storerec.config import RunOptions
from storerec.data.histories import Histories
from storerec.llm.progress import Progress
from storerec.pipeline import RunFolder, StoreConfig
from storerec.pipeline.encoding import EncodeChunks
from storerec.pipeline.training import TrainTokenizer
from storerec.scale import RayConfig
from storerec.scale.engine import RayEngine

CHUNK = 64


def prepared(folder: Path, items: int) -> RunFolder:
    """A run whose tokenizer is trained for a step."""
    catalogue = titles(items)
    ids = catalogue.ids.to_list()
    offsets = [0, 4, 8, 12]
    rows = catalogue.rows(ids[:12])
    histories = Histories.from_arrays(["a", "b", "c"], offsets, rows)
    config = StoreConfig.parse(
        {"tokenizer": {"encode_chunk": CHUNK, "training": {"max_steps": 1}, "batch_items": 4, "train_items": 8}}
    )
    run = RunFolder.create(folder, catalogue, histories, config, RunOptions(device="cpu", dtype="float32"))
    TrainTokenizer(run)(Progress(enabled=False))
    return run


def by_ray(task: EncodeChunks, workers: int, chunks: int) -> float:
    """Chunks a second, once every worker has given one."""
    with RayEngine.started(RayConfig(workers=workers)) as engine:
        return rate(engine.over(task, range(chunks)), workers)


def rate(results: Any, workers: int) -> float:
    """Results a second between the ``workers``-th and the last."""
    times = []
    for _ in results:
        times.append(time.perf_counter())
    return (len(times) - workers) / (times[-1] - times[workers - 1])


def by_processes(task: EncodeChunks, workers: int, chunks: int) -> float:
    """The same by plain processes, each with every so many-th chunk."""
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    them = [context.Process(target=_plain, args=(task, range(i, chunks, workers), queue)) for i in range(workers)]
    for one in them:
        one.start()
    found = rate((queue.get() for _ in range(chunks)), workers)
    for one in them:
        one.join()
    return found


def _plain(task: EncodeChunks, numbers: range, queue: Any) -> None:
    import torch

    torch.set_num_threads(1)
    work = task.open()
    for number in numbers:
        queue.put(work(number))


def main() -> None:
    """Measure one and two workers in turn, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=8, help=f"chunks of {CHUNK} items for each worker (8)")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="weak-scaling-") as folder:
        run = prepared(Path(folder) / "run", 2 * given.chunks * CHUNK)
        shape = (len(run.catalogue), 4, run.backbone.width)
        tasks = (EncodeChunks(run, f"{number:032d}", shape) for number in range(100))
        del run.__dict__["backbone"], run.__dict__["tokenizer"]
        ways: dict[str, list[float]] = {"ray 1": [], "ray 2": [], "plain 1": [], "plain 2": []}
        for _ in range(given.rounds):
            for workers in (1, 2):
                ways[f"ray {workers}"].append(by_ray(next(tasks), workers, workers * given.chunks))
                ways[f"plain {workers}"].append(by_processes(next(tasks), workers, workers * given.chunks))
                print({name: [round(CHUNK * r, 2) for r in rates] for name, rates in ways.items()}, flush=True)
    best = {name: max(rates) for name, rates in ways.items()}
    result = {
        "command": "python -m benchmarks.weak_scaling " + " ".join(sys.argv[1:]),
        "items_per_second": {name: [round(CHUNK * r, 2) for r in rates] for name, rates in ways.items()},
        "of_ideal": {
            "ray": best["ray 2"] / best["ray 1"] / 2,
            "plain processes": best["plain 2"] / best["plain 1"] / 2,
        },
        "goal": 0.85,
        "cores": os.cpu_count(),
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "weak_scaling.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
