"""One catalogue and its events through both engines: equal results, seconds and peak memory of each.

    python -m benchmarks.two_engines --items 2000000 --users 2000000 --events 20000000 --out docs/results/cluster

Synthetic data in folders of Parquet files, and a tiny language model, so that it is the project's own work that is
measured and not the model's. Each engine has a process of its own, with one thread where it computes; Ray has a cluster
on this machine. Both train in one process, since gradients that two processes add up are rounded in another order.
Compared by hash: histories, dense tokens, clusters, code table, means, the recommender's weights, and the metrics.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.memory import TreePeak, peak_resident
from benchmarks.synthetic import tiny_backbone, write_events, write_items


def settings(backbone: Path) -> dict[str, Any]:
    """A run that goes through every stage, with little training."""
    phase = {"max_steps": 60, "learning_rate": 1e-3}
    return {
        "backbone": {"name": str(backbone)},
        "tokenizer": {
            "dense_tokens": 4,
            "lora": {"rank": 4},
            "batch_items": 32,
            "train_items": 20_000,
            "training": {"max_steps": 60, "learning_rate": 1e-3},
        },
        "clusterer": {"clusters": 256, "dims": 16, "n_init": 1, "sample": 50_000},
        "split": {"protocol": "users", "test_users": 2000, "validation_share": 0.001, "max_items": 20},
        "recommender": {
            "max_history": 10,
            "lora": {"rank": 4},
            "batch_size": 32,
            "alignment": False,
            "alone": phase,
            "validation_users": 200,
        },
        "search": {"beam": 10},
        "evaluation": {"bootstrap_samples": 100},
    }


class Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block."""
        begun = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - begun, 1)
        print(f"  {name} {self.seconds[name]} s", file=sys.stderr, flush=True)


def one_engine(name: str, folder: Path) -> dict[str, Any]:
    """All stages on one engine, in this process."""
    import torch

    torch.set_num_threads(1)
    from storerec.config import RunOptions
    from storerec.data import read_items
    from storerec.llm.progress import Progress
    from storerec.pipeline import RunFolder, StoreConfig, cluster, evaluate_run, tokenize, train
    from storerec.pipeline.engine import LocalEngine
    from storerec.scale import RayConfig
    from storerec.scale.engine import RayEngine

    clock, quiet = Clock(), Progress(enabled=False)
    config = StoreConfig.parse(settings(folder / "backbone"))
    options = RunOptions(device="cpu", dtype="float32", progress=False)
    ray = RayConfig(workers=2, train_workers=1)
    with (
        TreePeak() as peak,
        RayEngine.started(ray) if name == "ray" else contextlib.nullcontext(LocalEngine()) as engine,
    ):
        with clock.stage("items"):
            catalogue = read_items(str(folder / "items"))
        with clock.stage("events"):
            histories = engine.read_events(str(folder / "events"), catalogue)
        with clock.stage("run folder"):
            run = RunFolder.create(folder / f"run-{name}", catalogue, histories, config, options)
        for stage in (tokenize, cluster, train):
            with clock.stage(stage.__name__):
                stage(run, quiet, engine)
        with clock.stage("evaluate"):
            result = evaluate_run(run, plots=False, engine=engine).to_json()
    for system in result["systems"].values():
        system.pop("seconds")
    return {
        "seconds": clock.seconds,
        "total_seconds": round(sum(clock.seconds.values()), 1),
        "program_peak_mib": peak_resident() >> 20,
        "tree_peak_mib": peak.bytes >> 20,
        "metrics": {k: v["value"] for k, v in result["systems"]["store"]["item"].items()},
        "hashes": hashes(run, histories, result),
    }


def hashes(run: Any, histories: Any, result: Any) -> dict[str, str]:
    """Digests of all that both engines must agree on."""
    out = {
        "histories": _digest(
            ["\0".join(histories.user_ids.to_list()).encode(), histories.offsets.tobytes(), histories.items.tobytes()]
        ),
        "dense tokens": _digest(part.tobytes() for part in (run.dense.read(i) for i in range(run.dense.chunks))),
        "metrics": _digest([json.dumps(result, sort_keys=True).encode()]),
    }
    for name in ("tokenizer", "clusterer", "table", "means", "recommender"):
        arrays = run.arrays(name)
        out[name] = _digest(key.encode() + np.ascontiguousarray(arrays[key]).tobytes() for key in sorted(arrays))
    return out


def _digest(parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def main() -> None:
    """Make the data, run both engines, compare and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    parser.add_argument("--scratch", type=Path, help="folder for data and runs; a temporary one, deleted, by default")
    parser.add_argument("--only", choices=("local", "ray"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(json.dumps(one_engine(given.only, given.scratch)))
        return
    scratch = given.scratch or Path(tempfile.mkdtemp(prefix="two-engines-"))
    write_items(scratch / "items", given.items)
    write_events(scratch / "events", given.users, given.items, given.events)
    tiny_backbone(scratch / "backbone")
    found: dict[str, Any] = {}
    for name in ("local", "ray"):
        print(name, file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "benchmarks.two_engines", "--only", name, "--scratch", str(scratch)]
        threads = os.environ | {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "2"}
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=threads)
        found[name] = json.loads(done.stdout.decode().splitlines()[-1])
    ours, theirs = (found[name].pop("hashes") for name in ("local", "ray"))
    result = {
        "command": "python -m benchmarks.two_engines " + " ".join(sys.argv[1:]),
        "machine": {"cores": os.cpu_count()},
        "items": given.items,
        "users": given.users,
        "events": given.events,
        "equal": {name: ours[name] == theirs[name] for name in ours},
    } | found
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"two_engines_{given.items}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    if not given.scratch:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
