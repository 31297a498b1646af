"""Encoding and clustering on Ray while a worker or a node is killed at a random moment, round by round.

    python -m benchmarks.kill_stages --kills 10 --out docs/results/cluster

Each round encodes and clusters one run on a cluster of two raylets; ``kill -9`` hits a worker process (odd rounds) or a
whole node (even rounds) at a moment drawn from the time an unbroken round takes. Dense tokens, clusters, code table and
means must equal the local engine's to the bit, and each item must be there once. Written round by round.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from tests.scale.cluster import kill, raylets, wait_for, workers_of

from benchmarks.synthetic import tiny_backbone, write_events, write_items
from benchmarks.two_engines import settings
from storerec.config import RunOptions
from storerec.data import read_events, read_items
from storerec.llm.progress import Progress
from storerec.pipeline import RunFolder, StoreConfig, cluster, tokenize
from storerec.pipeline.training import TrainTokenizer
from storerec.scale import RayConfig
from storerec.scale.engine import RayEngine

QUIET = Progress(enabled=False)


def prepared(folder: Path, items: int) -> RunFolder:
    """A run encoded and clustered by the local engine."""
    write_items(folder / "items", items)
    write_events(folder / "events", 6000, items, 60_000)
    config = settings(tiny_backbone(folder / "backbone"))
    config["tokenizer"]["encode_chunk"] = max(1, items // 120)
    catalogue = read_items(str(folder / "items"))
    histories = read_events(str(folder / "events"), catalogue)
    run = RunFolder.create(
        folder / "local", catalogue, histories, StoreConfig.parse(config), RunOptions(device="cpu", dtype="float32")
    )
    TrainTokenizer(run)(QUIET)
    tokenize(run, QUIET)
    cluster(run, QUIET)
    return run


def begun(local: RunFolder, folder: Path) -> RunFolder:
    """The same run with nothing but its tokenizer trained."""
    import shutil

    shutil.copytree(local.path / "data", folder / "data")
    shutil.copy(local.path / "run.json", folder / "run.json")
    (folder / "stages").mkdir()
    shutil.copy(local.file("tokenizer"), folder / "stages")
    return RunFolder.open(folder, local.options)


def same(run: RunFolder, local: RunFolder) -> dict[str, bool]:
    """What equals the local engine's."""
    out = {"dense tokens": bool(np.array_equal(run.dense.whole(), local.dense.whole()))}
    for name in ("clusterer", "table", "means"):
        ours, theirs = run.arrays(name), local.arrays(name)
        out[name] = ours.keys() == theirs.keys() and all(np.array_equal(ours[key], theirs[key]) for key in ours)
    return out


def one_round(local: RunFolder, folder: Path, delay: float | None, what: str) -> dict[str, Any]:
    """Encode and cluster while ``what`` is killed ``delay`` seconds after the first worker stood."""
    run = begun(local, folder)
    hit: dict[str, Any] = {}
    with raylets(2, cpus=1) as there, RayEngine.started(RayConfig(address=there.address)) as engine:
        (node,) = there.worker_nodes
        over = threading.Event()

        def killer() -> None:
            wait_for(lambda: workers_of("MapWorker") or over.is_set(), every=0.02)
            if delay is None or over.wait(delay):
                return
            hit["chunks_then"] = sum(1 for _ in (folder / "stages").rglob("dense_tokens/**/[0-9]*.safetensors"))
            victims = workers_of("MapWorker", node if what == "node" else None)
            hit["hit"] = bool(victims)  # a node without a worker, or a moment between two stages, hits none
            if what == "node":
                there.remove_node(node, allow_graceful=False)
            elif victims:
                kill(random.choice(victims))

        thread = threading.Thread(target=killer, daemon=True)
        begin = time.perf_counter()
        thread.start()
        tokenize(run, QUIET, engine)
        cluster(run, QUIET, engine)
        seconds = time.perf_counter() - begin
        over.set()
        thread.join(60)
    return {"what": what, "after": delay, **hit, "seconds": round(seconds, 1), "same": same(run, local)}


def main() -> None:
    """One unbroken round, then the kills."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, help="kills of a worker, and as many of a node (10)")
    parser.add_argument("--items", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    given = parser.parse_args()
    random.seed(given.seed)
    result: dict[str, Any] = {"command": "python -m benchmarks.kill_stages " + " ".join(sys.argv[1:]), "rounds": []}
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kill-stages-") as scratch:
        local = prepared(Path(scratch), given.items)
        unbroken = one_round(local, Path(scratch) / "unbroken", None, "nothing")
        span = unbroken["seconds"]
        for number in range(4 * given.kills):
            what = ("worker", "node")[number % 2]
            if sum(one["what"] == what and one.get("hit", False) for one in result["rounds"]) >= given.kills:
                continue
            one = one_round(local, Path(scratch) / f"round-{number}", random.uniform(0, span), what)
            result["rounds"].append(one)
            result["summary"] = {
                "unbroken_seconds": span,
                "workers_hit": sum(r["what"] == "worker" and r.get("hit", False) for r in result["rounds"]),
                "nodes_hit": sum(r["what"] == "node" and r.get("hit", False) for r in result["rounds"]),
                "all_same": all(all(r["same"].values()) for r in result["rounds"]),
            }
            print(json.dumps(one), json.dumps(result["summary"]), flush=True)
            (given.out / "kill_stages.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
