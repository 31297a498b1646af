"""The code tree at 10 thousand, 1 million and 20 million items: build, memory, saving, loading, and one step of search.

    python -m benchmarks.tree_scale --out runs/bench

Codes are drawn from 4 positions of 256 and of 4,096; each size is measured in a process of its own, whose largest
resident memory after the build, torch and the codes included, is told. A step is what the search does with the tree:
children of 20 beams, masking and normalising their codes' logits, and the best 20 of all. It is compared with that of
10 thousand items, and with a decode step of SmolLM2-135M's layers for 20 beams behind 100 tokens.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import arguments, curve, in_turn, row, write
from storerec.codes import CodeTable, CodeTree
from storerec.recommender.best import best
from storerec.recommender.tree import TorchTree
from storerec.storage import map_arrays, save_arrays

POSITIONS, BEAMS, SMALL = 4, 20, 10_000


def memory() -> float:
    """Largest resident memory so far, in GiB; 0 where Linux does not tell it."""
    about = Path("/proc/self/status")  # getrusage would tell that of the process this one was forked from
    text = about.read_text(encoding="utf-8") if about.exists() else "VmHWM: 0"
    return int(text.partition("VmHWM:")[2].split()[0]) / 2**20


def drawn(items: int, codes: int) -> np.ndarray:
    """(items, positions) int32, by position so that no larger array stands beside it."""
    rng = np.random.default_rng(0)
    whole = np.empty((items, POSITIONS), np.int32)
    for position in range(POSITIONS):
        # squared: some codes are rarer than others, as k-means leaves them
        whole[:, position] = (codes * rng.random(items, np.float32) ** 2).astype(np.int32).clip(max=codes - 1)
    return whole


def step_seconds(trees: Sequence[TorchTree], rounds: int) -> list[float]:
    """Median seconds of what the search does with each tree at a step, for one user; the trees take turns."""
    generator = torch.Generator().manual_seed(0)
    spent: list[list[float]] = [[] for _ in trees]
    for _ in range(rounds):
        for tree, own in zip(trees, spent, strict=True):
            own.append(_search(tree, generator) / POSITIONS)
    return [float(np.median(own)) for own in spent]


def _search(tree: TorchTree, generator: torch.Generator) -> float:
    """Seconds of one search's steps over random logits, without what makes the logits."""
    nodes, totals, taken = torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1), 0.0
    for level in range(POSITIONS):
        logits = torch.randn(1, nodes.shape[1], tree.sizes[level], generator=generator)
        started = time.perf_counter()
        children = tree.children(level, nodes)
        logs = torch.where(children < 0, -torch.inf, logits)
        logs = logs - logs.logsumexp(-1, keepdim=True).clamp(min=torch.finfo(logs.dtype).min)
        scores = (totals[..., None] + logs).flatten(1)
        totals, chosen = best(scores, min(BEAMS, scores.shape[1]))
        nodes = children.flatten(1).gather(1, chosen).masked_fill(totals == -torch.inf, -1)
        taken += time.perf_counter() - started
    return taken


def measure(items: int, codes: int, rounds: int) -> dict[str, Any]:
    """All figures of one size, in this process."""
    torch.set_num_threads(1)  # these are small operations
    tuples, before = drawn(items, codes), memory()
    started = time.perf_counter()
    table = CodeTable.build(tuples, (codes,) * POSITIONS)
    tree = CodeTree.from_table(table)
    built, peak, whole = time.perf_counter() - started, memory() - before, memory()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "tree.safetensors"
        started = time.perf_counter()
        save_arrays(place, tree.arrays())
        saved = time.perf_counter() - started
        size = place.stat().st_size
        started = time.perf_counter()
        mapped = CodeTree.from_arrays(map_arrays(place))
        mapped.children(0, np.zeros(1, np.int64))
        loaded = time.perf_counter() - started
        started = time.perf_counter()
        searched = TorchTree(mapped, torch.device("cpu"))
        ready = time.perf_counter() - started
        small = CodeTree.from_table(CodeTable.build(drawn(SMALL, codes), (codes,) * POSITIONS))
        # in one process and in turn: small operations take half as long again from one process to another
        seconds, small_seconds = step_seconds([searched, TorchTree(small, torch.device("cpu"))], rounds)
        same = all(
            np.array_equal(a, b) for a, b in zip(tree.starts + tree.codes, mapped.starts + mapped.codes, strict=True)
        )
    return {
        "items": items, "codes": codes, "build_seconds": built, "build_gib": peak, "save_seconds": saved,
        "load_seconds": loaded, "search_ready_seconds": ready, "file_gib": size / 2**30, "step_seconds": seconds,
        "small_step_seconds": small_seconds,
        "same": same, "tuples": len(table.tuples), "peak_gib": whole,
    }  # fmt: skip


def decode_seconds(rounds: int) -> float:
    """One decode step of SmolLM2-135M for 20 beams of one user, as the search runs it."""
    from storerec.config import RunOptions
    from storerec.llm.backbone import Backbone, BackboneConfig
    from storerec.llm.inference import inference_layers

    backbone = Backbone.load(BackboneConfig(), RunOptions(device="cpu"))
    layers = inference_layers(backbone.base, backbone.word_embeddings, [], torch.float32)
    past, node = torch.randn(1, 100, backbone.width), torch.randn(1, BEAMS, backbone.width)
    seen = torch.cat([torch.ones(1, BEAMS, 100, dtype=torch.bool), torch.eye(BEAMS, dtype=torch.bool)[None]], dim=-1)
    read = layers.start()
    layers.run(past, torch.arange(100)[None], read)

    def step() -> None:
        short = layers.start()
        short.keys, short.values = list(read.keys), list(read.values)
        layers.run(node, torch.full((1, BEAMS), 100), short, seen)

    return in_turn({"step": step}, rounds)["step"]


def curves(sizes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Steps and builds of all sizes, for the plot."""
    items = sorted({one["items"] for one in sizes})
    for title, key in (("tree step", "step_seconds"), ("tree build", "build_seconds")):
        lines = {f"{codes}_codes": [one[key] for one in sizes if one["codes"] == codes] for codes in (256, 4096)}
        yield curve(title, "items", "seconds", items, **lines)


def main() -> None:
    """Measure every size, each in its own process."""
    if len(sys.argv) > 1 and sys.argv[1] == "one":
        print(json.dumps(measure(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
        return
    given = arguments(__doc__, largest=(20_000_000, "items of the largest tree"))
    decode, lines, sizes = decode_seconds(given.rounds), [], []
    for codes in (256, 4096):
        for items in (SMALL, 1_000_000, given.largest):
            command = [
                sys.executable,
                "-m",
                "benchmarks.tree_scale",
                "one",
                str(items),
                str(codes),
                str(100 * given.rounds),
            ]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            sizes.append(found)
            print(found)
        name = f"{given.largest:,} items, {codes:,} codes"
        lines += [
            row(f"tree step, {name}", found["step_seconds"], found["small_step_seconds"], bound=1.0, goal=1 / 1.3,
                counted="the same step at 10,000 items, in turn",
                same=f"mapped tree equals the built one: {found['same']}"),
            row(f"tree step, {name}, of a decode step", found["step_seconds"], decode, bound=50.0, goal=50.0,
                counted="a decode step of 20 beams; the goal is 2% of it", same=""),
            row(f"tree build, {name}", found["build_seconds"], None, bound=found["build_gib"], goal=60.0,
                counted="the bound column holds GiB of memory beside torch and the codes, goal 1.5",
                same=f"{found['peak_gib']:.2f} GiB in all"),
            row(f"tree load, {name}", found["load_seconds"], None, bound=found["search_ready_seconds"], goal=1.0,
                counted="the bound column holds seconds until it can be searched", same=""),
        ]  # fmt: skip
    write("tree_scale", given, lines, sizes=sizes, decode_seconds=decode, curves=list(curves(sizes)))


if __name__ == "__main__":
    main()
