"""Tune SASRec by validation NDCG@10, one setting after the other, and write what was tried as a Markdown table.

    python benchmarks/tune_sasrec.py movielens-100k --out docs/results/tuning/sasrec-movielens-100k.md

Each axis tries its values with the other settings at the best so far. Finished trainings are read back from --work, so
that a killed run goes on. The test cases are looked at once, with the settings and weights that validation chose.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from storerec.config import RunOptions
from storerec.data.readers import read_dataset
from storerec.data.splits import Cases, Split, leave_one_out
from storerec.llm.progress import Progress
from storerec.storage import write_json
from storerec.systems.base import Exclusions, System
from storerec.systems.markov import Markov
from storerec.systems.popularity import Popularity
from storerec.systems.sasrec import SasRec, train_sasrec
from storerec.systems.sasrec_model import SasRecConfig

START: dict[str, Any] = {
    "dropout": 0.4,
    "max_history": 50,
    "average": None,
    "learning_rate": 1e-3,
    "blocks": 2,
    "width": 64,
    "weight_decay": 0.0,
    "item_bias": False,
    "heads": 1,
    "batch_size": 64,
}
AXES: list[tuple[str, tuple[Any, ...]]] = [
    ("dropout", (0.2, 0.4, 0.5)),
    ("average", (None, 0.98)),
    ("max_history", (50, 100, 200)),
    ("learning_rate", (5e-4, 1e-3, 2e-3)),
    ("width", (64, 128)),
    ("blocks", (1, 2, 3)),
    ("item_bias", (False, True)),
    ("weight_decay", (0.0, 0.1)),
    ("heads", (1, 2)),
    ("batch_size", (32, 64)),
]
TRAINING = ("learning_rate", "weight_decay", "average")


def main() -> None:
    """Search, write the table, test once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a dataset's name, as in storerec.data.readers.read_dataset")
    parser.add_argument("--path", help="its folder, where it is not fetched")
    parser.add_argument("--out", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--work", type=Path, default=Path("runs/tune-sasrec"), help="folder of the trainings")
    parser.add_argument("--start", type=json.loads, default={}, help="JSON of settings to start from")
    parser.add_argument("--axes", help="comma-separated names of the axes to try, in this order; all by default")
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--patience", type=int, default=6)
    parser.add_argument("--minutes", type=float, default=20, help="start no training after this long")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    catalogue, histories = read_dataset(arguments.data, arguments.path)
    split = leave_one_out(histories)
    tried, best = search(split, len(catalogue), arguments)
    folder = arguments.work / best["name"]
    systems = [Popularity.fit(split.train, len(catalogue)), Markov.fit(split.train, len(catalogue))]
    systems.append(SasRec(_train(split, len(catalogue), best["settings"], folder, arguments)[0]))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(report(arguments, tried, best, systems, split), encoding="utf-8")


def search(split: Split, n_items: int, arguments: argparse.Namespace) -> tuple[list[dict], dict]:
    """All settings tried, in order, and the best by validation NDCG@10 (history not excluded)."""
    current = START | arguments.start
    axes = [(name, dict(AXES)[name]) for name in arguments.axes.split(",")] if arguments.axes else AXES
    tried: dict[str, dict] = {}
    begin = time.monotonic()
    for axis, values in [("start", (None,)), *axes]:
        for value in values:
            settings = current if axis == "start" else current | {axis: value}
            name = hashlib.sha256(json.dumps([settings, arguments.epochs, arguments.patience]).encode()).hexdigest()[
                :12
            ]
            folder = arguments.work / name
            over = time.monotonic() - begin > 60 * arguments.minutes
            if name in tried or (over and not (folder / "result.json").exists()):
                continue
            tried[name] = measured(split, n_items, settings, folder, arguments) | {"axis": axis, "name": name}
            print(json.dumps(tried[name]), flush=True)
        current = max(tried.values(), key=lambda one: one["ndcg@10"])["settings"]
    return list(tried.values()), max(tried.values(), key=lambda one: one["ndcg@10"])


def measured(split: Split, n_items: int, settings: dict, folder: Path, arguments: argparse.Namespace) -> dict:
    """Train one setting, or read its result back: validation figures of the kept weights, epochs, minutes."""
    place = folder / "result.json"
    if not place.exists():
        _, log = _train(split, n_items, settings, folder, arguments)
        points = [entry for entry in log if "eval_ndcg@10" in entry]
        kept = max(points, key=lambda entry: entry["eval_ndcg@10"])
        names = [f"{metric}@10{suffix}" for suffix in ("", "_excluding") for metric in ("recall", "ndcg")]
        figures = {name: kept[f"eval_{name}"] for name in names}
        figures["best_excluding"] = max(entry["eval_ndcg@10_excluding"] for entry in points)
        figures |= {"epoch": round(kept["epoch"]), "epochs": len(points)}
        write_json(place, {"settings": settings, **figures})
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
    return json.loads(place.read_text(encoding="utf-8"))


def _train(split: Split, n_items: int, settings: dict, folder: Path, arguments: argparse.Namespace) -> tuple:
    training = {name: settings[name] for name in TRAINING}
    training |= {"epochs": arguments.epochs, "patience": arguments.patience, "schedule": "constant", "warmup": 0.0}
    own = {name: value for name, value in settings.items() if name not in TRAINING}
    config = SasRecConfig.parse(own | {"training": training})
    options = RunOptions(device="cpu", seed=arguments.seed)
    return train_sasrec(split, n_items, config, folder, options, Progress(enabled=False))


def figures(system: System, cases: Cases, *, excluding: bool) -> tuple[float, float]:
    """Recall@10 and NDCG@10 over the whole catalogue."""
    items = system.recommend(cases.histories, 10, exclude=Exclusions(history=excluding)).items
    hit = items == cases.targets[:, None]
    return float(hit.any(1).mean()), float((hit.any(1) / np.log2(hit.argmax(1) + 2)).mean())


def report(arguments: argparse.Namespace, tried: list[dict], best: dict, systems: list, split: Split) -> str:
    """The whole Markdown file."""
    axes = list(START)
    head = [*axes, "R@10", "N@10", "R@10 excl.", "N@10 excl.", "best N@10 excl.", "epoch"]
    rows = [
        [str(one["settings"][axis]) for axis in axes]
        + [f"{one[name]:.4f}" for name in ("recall@10", "ndcg@10", "recall@10_excluding", "ndcg@10_excluding")]
        + [f"{one['best_excluding']:.4f}", f"{one['epoch']} of {one['epochs']}"]
        for one in tried
    ]
    measured_systems = [
        [system.name, part]
        + [f"{x:.4f}" for excluding in (False, True) for x in figures(system, cases, excluding=excluding)]
        for part, cases in (("validation", split.validation), ("test", split.test))
        for system in systems
    ]
    seen = {(axis, value) for one in tried for axis, value in one["settings"].items()}
    missing = ", ".join(f"{axis} {value}" for axis, values in AXES for value in values if (axis, value) not in seen)
    chosen = ", ".join(f"{axis} {best['settings'][axis]}" for axis in axes)
    return "\n".join(
        [
            f"# SASRec on {arguments.data}: what was tried",
            "",
            "Leave-one-out, full catalogue. Weights and settings are chosen by validation NDCG@10 with the user's own "
            "history left in; `excl.` leaves it out of the lists (of the kept weights; `best` is the best epoch's). "
            "`epoch` is the kept one of those trained. Settings in order of trial; each axis starts from the best so "
            "far.",
            "",
            table(head, rows),
            f"Chosen: {chosen}. Not tried, for want of time: {missing or 'nothing of the axes'}.",
            "",
            table(["system", "cases", "R@10", "N@10", "R@10 excl.", "N@10 excl."], measured_systems),
            f"Command: `python {shlex.join(sys.argv)}`, seed {arguments.seed}, "
            f"{len(tried)} trainings of {sum(one['epochs'] for one in tried)} epochs in all.",
            "",
            f"Machine: {processor()}, one thread, torch {torch.__version__}.",
            "",
        ]
    )


def processor() -> str:
    """The processor's name."""
    place = Path("/proc/cpuinfo")
    lines = place.read_text(encoding="utf-8").splitlines() if place.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    main()
