"""How much memory searches take that meet histories of all lengths, and batches of all sizes, for the first time.

    python -m benchmarks.shapes --run runs/demo

oneDNN compiles a product for each number of rows; searches pass numbers of rows that many batches share. Both ways run
in processes of their own, since what is compiled stays: as it is, and with every number of rows as it comes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from benchmarks.harness import arguments, row, write
from storerec.config import RunOptions
from storerec.data.histories import Histories
from storerec.llm import fused
from storerec.llm.packed import PackedMap
from storerec.pipeline import STORE

CALLS = 150


def asked(store: STORE, seed: int) -> Histories:
    """Histories of 1 to 8 users, of 1 to 20 items."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 21, rng.integers(1, 9))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    items = rng.integers(0, len(store.catalogue), offsets[-1]).astype(np.int32)
    return Histories.from_arrays([str(user) for user in range(len(lengths))], offsets, items)


def searches(run: str, as_it_comes: bool) -> dict[str, float]:
    """Median seconds of a search, the memory before and after all, and the lists' sum for comparison."""
    if as_it_comes:
        fused._rounded = lambda tokens: tokens
    store = STORE.load(run, options=RunOptions(device="cpu", progress=False))
    shapes: set[tuple[int, torch.Size]] = set()
    multiply = PackedMap.__call__

    def counted(one: PackedMap, inputs: torch.Tensor) -> torch.Tensor:
        shapes.add((inputs.shape[:-1].numel(), one.weight.shape))
        return multiply(one, inputs)

    PackedMap.__call__ = counted
    store.recommend_batch(asked(store, 0), 10)
    first = len(shapes)
    before, spent, total = psutil.Process().memory_info().rss, [], 0
    for seed in range(1, CALLS + 1):
        histories = asked(store, seed)
        started = time.perf_counter()
        lists = store.recommend_batch(histories, 10)
        spent.append(time.perf_counter() - started)
        total += int((lists.items * np.arange(1, 11)).sum())
    grown = (psutil.Process().memory_info().rss - before) / 2**20
    return {"seconds": float(np.median(spent)), "grown_mib": grown, "lists": total, "products": len(shapes) - first}


def main() -> None:
    """Measure both ways, in turn."""
    given = arguments(__doc__, run=("runs/demo", "a trained run or bundle"), child=("", "used by the script itself"))
    if given.child:
        print(json.dumps(searches(given.run, given.child == "plain")))
        return
    found: dict[str, list[dict[str, float]]] = {"ours": [], "plain": []}
    for _ in range(given.rounds):
        for name in found:
            command = [sys.executable, "-m", "benchmarks.shapes", "--run", given.run, "--child", name]
            told = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path.cwd()).stdout
            found[name].append(json.loads(told.splitlines()[-1]))
    (ours, fast), (plain, slow) = (
        [float(np.median([one[key] for one in found[name]])) for key in ("grown_mib", "seconds")] for name in found
    )
    more, most = (int(found[name][0]["products"]) for name in found)
    same = "the same lists" if len({one["lists"] for name in found for one in found[name]}) == 1 else "OTHER LISTS"
    line = row(
        f"memory that {CALLS} searches of 1 to 8 users add, each of another size", ours, plain, bound=most / more,
        counted=f"products compiled: {most} / {more}", goal=2.0, same=f"{same}; {fast:.4f} and {slow:.4f} s a search",
        unit="MiB",
    )  # fmt: skip
    write("shapes", given, [line])


if __name__ == "__main__":
    main()
