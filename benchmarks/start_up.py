"""How long a user waits: for ``storerec --help``, and for the first recommendation of a bundle.

    python -m benchmarks.start_up --out runs/bench

The bundle is made here, of SmolLM2-135M with its two recommender layers of the ``cpu`` preset after one training step,
over 1,000 items: time to load does not depend on what was learned.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.harness import arguments, row, write

ITEMS = 1_000
PROGRAM = str(Path(sys.executable).with_name("storerec"))


def bundle(folder: Path) -> Path:
    """A run folder with one step of each training."""
    rng = np.random.default_rng(0)
    words = np.array(["red", "blue", "old", "new", "shoe", "hat", "coat", "bag"])
    titles = [" ".join(rng.choice(words, 5)) + f" {i}" for i in range(ITEMS)]
    pl.DataFrame({"item_id": [f"i{i}" for i in range(ITEMS)], "title": titles}).write_csv(folder / "items.csv")
    users = np.repeat(np.arange(200), 8)
    events = {
        "user_id": users,
        "item_id": [f"i{i}" for i in rng.integers(0, ITEMS, len(users))],
        "timestamp": np.arange(len(users)),
    }
    pl.DataFrame(events).write_csv(folder / "events.csv")
    config = folder / "config.json"
    config.write_text(
        '{"tokenizer": {"training": {"max_steps": 1}}, "clusterer": {"clusters": 32},'
        ' "recommender": {"joint": {"max_steps": 1}, "alone": {"max_steps": 1}}}'
    )
    run = folder / "run"
    command = ["fit", "--items", str(folder / "items.csv"), "--events", str(folder / "events.csv")]
    command += ["--preset", "cpu", "--config", str(config), "--out", str(run), "--no-progress"]
    subprocess.run([PROGRAM, *command], check=True, stdout=subprocess.DEVNULL)
    return run


def seconds(command: list[str], rounds: int) -> float:
    """The median of ``rounds`` calls of a program."""
    spent = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        spent.append(time.perf_counter() - started)
    return float(np.median(spent[1:]))  # the first reads files from the disk


def main() -> None:
    """Measure."""
    given = arguments(__doc__)
    python = [PROGRAM]
    empty = seconds([sys.executable, "-c", "pass"], given.rounds)
    heavy = seconds([sys.executable, "-c", "import torch"], given.rounds)
    lines = [
        row(
            "storerec --help", seconds([*python, "--help"], given.rounds), None, bound=empty,
            counted="an empty Python program", goal=0.4, same="imports no torch (tests/cli)",
        )
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        run = bundle(Path(folder))
        command = [*python, "recommend", str(run), "--history", "i1,i2,i3", "--device", "cpu"]
        lines.append(
            row(
                "bundle to first recommendation, as a program", seconds(command, given.rounds), None, bound=heavy,
                counted="a program that only imports torch", goal=5.0, same="prints a list",
            )
        )  # fmt: skip
    write("start_up", given, lines)


if __name__ == "__main__":
    main()
