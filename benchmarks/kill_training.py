"""Training on Ray by two workers, one of which is killed at a random moment, round by round.

    python -m benchmarks.kill_training --kills 10 --out docs/results/cluster

Each round trains the tokenizer (odd rounds) or the recommender (even rounds) of one run, with dropout, averaged weights
and validation, on a cluster of two raylets. ``kill -9`` hits one of the two at a moment drawn from the time that an
unbroken training takes once both stand. Weights and logs must equal the unbroken training's to the bit. Written round
by round.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tests.scale.cluster import kill, raylets, wait_for, workers_of

from benchmarks.kill_stages import QUIET
from benchmarks.synthetic import tiny_backbone, write_events, write_items
from benchmarks.two_engines import settings
from storerec.config import RunOptions
from storerec.data import read_events, read_items
from storerec.llm.progress import Bar, Progress
from storerec.pipeline import RunFolder, StoreConfig, cluster, tokenize
from storerec.pipeline.training import TrainRecommender, TrainTokenizer
from storerec.scale import RayConfig
from storerec.scale.engine import RayEngine

KINDS = {"tokenizer": TrainTokenizer, "recommender": TrainRecommender}
WORKER = "RayTrainWorker"


class Steps(Progress):
    """A silent bar that notes where trainings begin."""

    def __init__(self) -> None:
        super().__init__(enabled=False)
        self.begun: list[int] = []

    def start(self, label: str, total: int, *, done: int = 0, unit: str = "item") -> Bar:
        """A training begins, or goes on."""
        self.begun.append(done)
        return super().start(label, total, done=done, unit=unit)


def prepared(folder: Path, steps: int) -> RunFolder:
    """A run that lacks nothing but its recommender."""
    write_items(folder / "items", 2000)
    write_events(folder / "events", 1000, 2000, 10_000)
    config = settings(tiny_backbone(folder / "backbone"))
    # losses are logged as means of 10 steps, of those since a resume if these are fewer: checkpoints fall between them
    training = {"max_steps": steps, "learning_rate": 1e-3, "checkpoint_steps": 20, "average": 0.99}
    lora = {"rank": 4, "dropout": 0.1}
    config["split"] = {"protocol": "leave_one_out"}
    config["tokenizer"] |= {"training": training, "lora": lora}
    config["recommender"] |= {"alone": training, "lora": lora, "dropout": 0.1}
    catalogue = read_items(str(folder / "items"))
    histories = read_events(str(folder / "events"), catalogue)
    options = RunOptions(device="cpu", dtype="float32", progress=False)
    run = RunFolder.create(folder / "local", catalogue, histories, StoreConfig.parse(config), options)
    tokenize(run, QUIET)
    cluster(run, QUIET)
    return run


def begun(local: RunFolder, kind: str, folder: Path) -> RunFolder:
    """The same run before that training."""
    shutil.copytree(local.path, folder)
    run = RunFolder.open(folder, local.options)
    for place in (run.file(kind), run.work(kind)):
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    return run


def result(run: RunFolder, kind: str) -> dict[str, Any]:
    """Weights and logs."""
    logs = {
        str(place.relative_to(run.path)): json.loads(place.read_text()) for place in run.work(kind).rglob("log.json")
    }
    return {"weights": load_file(run.file(kind)), "logs": logs}


def same(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, bool]:
    """What equals the unbroken training's."""
    ours, theirs = found["weights"], expected["weights"]
    return {
        "weights": ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs),
        "logs": bool(found["logs"]) and found["logs"] == expected["logs"],
    }


def one_round(
    local: RunFolder, kind: str, folder: Path, address: str, delay: float | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train while a worker is killed ``delay`` seconds after both stood: what happened, and the result."""
    run, steps, hit, over = begun(local, kind, folder), Steps(), dict[str, Any](), threading.Event()

    def killer() -> None:
        wait_for(lambda: len(workers_of(WORKER)) > 1 or over.is_set(), seconds=600, every=0.02)
        hit["stood"] = time.perf_counter()
        if delay is None or over.wait(delay):
            return
        victims = workers_of(WORKER)
        hit["hit"] = bool(victims)  # at the very end there may be none left
        hit["whole_checkpoints_then"] = len(list(run.work(kind).rglob("checkpoint-*/whole")))
        if victims:
            kill(random.choice(victims))

    thread = threading.Thread(target=killer, daemon=True)
    thread.start()
    with RayEngine.started(RayConfig(address=address)) as engine:
        engine.train(KINDS[kind](run), steps)
    over.set()
    thread.join(60)
    seconds = time.perf_counter() - hit.pop("stood")
    told = {"what": kind, "after": delay, **hit, "steps_begun_at": steps.begun, "seconds": round(seconds, 1)}
    return told, result(run, kind)


def main() -> None:
    """An unbroken training of each kind, then the kills."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, help="kills, of tokenizer and recommender in turn (10)")
    parser.add_argument("--steps", type=int, default=240, help="optimizer steps of each training, 200 at least (240)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    given = parser.parse_args()
    random.seed(given.seed)
    command = "python -m benchmarks.kill_training " + " ".join(sys.argv[1:])
    out: dict[str, Any] = {"command": command, "unbroken_seconds": {}, "rounds": []}
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kill-training-") as scratch, raylets(2, cpus=2) as there:
        local, expected = prepared(Path(scratch), given.steps), dict[str, dict[str, Any]]()
        for kind in KINDS:
            told, expected[kind] = one_round(local, kind, Path(scratch) / f"unbroken-{kind}", there.address, None)
            out["unbroken_seconds"][kind] = told["seconds"]
        for number in range(4 * given.kills):
            kind = list(KINDS)[number % 2]
            if sum(one.get("hit", False) for one in out["rounds"]) >= given.kills:
                break
            delay = random.uniform(0, out["unbroken_seconds"][kind])
            told, found = one_round(local, kind, Path(scratch) / f"round-{number}", there.address, delay)
            out["rounds"].append(told | {"same": same(found, expected[kind])})
            hits = [one for one in out["rounds"] if one.get("hit", False)]
            out["summary"] = {
                "workers_hit": len(hits),
                "resumed_from_a_checkpoint": sum(max(one["steps_begun_at"]) > 0 for one in hits),
                "all_same": all(all(one["same"].values()) for one in out["rounds"]),
            }
            print(json.dumps(out["rounds"][-1]), json.dumps(out["summary"]), flush=True)
            (given.out / "kill_training.json").write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
