"""A small model of what stages cost, made from one measured run and held against runs ten times smaller and larger.

    python -m benchmarks.sizing --out docs/results/cluster

Two kinds of work. What the language model does (SmolLM2-135M, preset cpu, all cores of this machine): encoding items,
training steps, and lists for users, measured here at three sizes. What the package itself does (reading, clustering,
the table): the stages of ``benchmarks.two_engines``, whose results at 20,000, 200,000 and 2,000,000 items are read from
the same folder. The model is a line, seconds = fixed + units / rate. Through two runs, it is held against the third,
which is ten times larger, ten times smaller, or between them: predicted / measured.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.encoding import catalogue as titles
from benchmarks.harness import machine
from storerec.config import RunOptions
from storerec.data.histories import Histories
from storerec.llm.progress import Progress
from storerec.pipeline import STORE, RunFolder, StoreConfig, fit
from storerec.systems.base import Exclusions

QUIET = Progress(enabled=False)
STAGES = {"events": "events", "tokenize": "items", "cluster": "items"}


def trained(folder: Path, items: int, users: int) -> STORE:
    """A STORE of the preset cpu after one step: as fast as one that is trained."""
    rng = np.random.default_rng(0)
    catalogue = titles(items)
    rows = rng.integers(0, items, users * 10).astype(np.int32)
    histories = Histories.from_arrays([f"u{i}" for i in range(users)], np.arange(users + 1) * 10, rows)
    step = {"max_steps": 1}
    own = {"tokenizer": {"training": step}, "recommender": {"joint": step, "alone": step, "validation_users": 1}}
    place = folder / "config.json"
    place.write_text(json.dumps(own))
    config = StoreConfig.assembled("cpu", place)
    run = RunFolder.create(folder / "run", catalogue, histories, config, RunOptions(device="cpu", dtype="float32"))
    return fit(run, QUIET)


def timed(store: STORE, sizes: tuple[int, ...]) -> dict[str, dict[int, float]]:
    """Seconds of encoding and of lists by size."""
    from storerec.tokenizer import encode_items

    split = store._split
    assert split is not None
    found: dict[str, dict[int, float]] = {"encoding, items": {}, "lists of 10, users": {}}
    for size in sizes:
        begun = time.perf_counter()
        encode_items(
            store.tokenizer, store.catalogue.select(np.arange(size)), store.options, QUIET, layers=store.encoding()
        )
        found["encoding, items"][size] = time.perf_counter() - begun
        begun = time.perf_counter()
        store.system.recommend(split.test.histories.select(np.arange(size)), 10, exclude=Exclusions())
        found["lists of 10, users"][size] = time.perf_counter() - begun
        print({name: round(by[size], 2) for name, by in found.items()}, flush=True)
    return found


def checked(seconds: dict[int, float]) -> dict[str, Any]:
    """Lines through two of three runs, held against the third."""
    small, middle, large = sorted(seconds)
    fixed, slope = _line(seconds, small, large)
    return {
        "seconds": {size: round(value, 2) for size, value in seconds.items()},
        "units_per_second": round(1 / slope, 1),
        "fixed_seconds": round(fixed, 2),
        "predicted_over_measured": {
            "ten times larger": _ratio(seconds, small, middle, large),
            "ten times smaller": _ratio(seconds, middle, large, small),
            "between": _ratio(seconds, small, large, middle),
        },
    }


def _line(seconds: dict[int, float], one: int, other: int) -> tuple[float, float]:
    slope = (seconds[other] - seconds[one]) / (other - one)
    return seconds[one] - slope * one, slope


def _ratio(seconds: dict[int, float], one: int, other: int, third: int) -> float:
    fixed, slope = _line(seconds, one, other)
    return round((fixed + slope * third) / seconds[third], 2)


def stages(folder: Path) -> dict[str, Any]:
    """The same of the stages of two_engines, if its results are there."""
    found = {size: folder / f"two_engines_{size}.json" for size in (20_000, 200_000, 2_000_000)}
    if not all(place.is_file() for place in found.values()):
        return {}
    told = {size: json.loads(place.read_text()) for size, place in found.items()}
    return {
        f"{engine}: {stage}, {unit}": checked({one[unit]: one[engine]["seconds"][stage] for one in told.values()})
        for engine in ("local", "ray")
        for stage, unit in STAGES.items()
    }


def main() -> None:
    """Measure, check, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    parser.add_argument("--largest", type=int, default=2000, help="items and users of the largest run (2000)")
    given = parser.parse_args()
    sizes = (given.largest // 100, given.largest // 10, given.largest)
    with tempfile.TemporaryDirectory(prefix="sizing-") as folder:
        store = trained(Path(folder), given.largest, given.largest)
        timed(store, sizes[:1])  # the first call of each makes what the others use
        model = {name: checked(by) for name, by in timed(store, sizes).items()}
    result = {
        "command": "python -m benchmarks.sizing " + " ".join(sys.argv[1:]),
        "machine": machine() | {"cores": os.cpu_count()},
        "language_model": model,
        "stages": stages(given.out),
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "sizing.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
