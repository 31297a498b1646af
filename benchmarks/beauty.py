"""All systems on Amazon Beauty (2014), leave-one-out, beside figures published for this very file; in short runs.

    python benchmarks/beauty.py FOLDER --out runs/beauty --config benchmarks/beauty-gpu.json --minutes 10

FOLDER has ``items.jsonl`` (one object a line: id, title, categories) and ``sequences.tsv`` (user, tab, item ids with
blanks between, oldest first). After --minutes the run stops; the same command goes on with finished stages and from the
newest checkpoints of the others. ``--users N`` takes N users and their items only, for a trial on a small machine.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import polars as pl

from storerec.comparison import ComparisonConfig, ComparisonData, Grid, Results, compare, resolve
from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.errors import DataError, StorerecError

HERE = Path(__file__).parent
STOPPED = 75  # the usual code for "try again later"
PATIENCE = 30  # seconds that processes get to end in, once they are asked to

METRICS = ("recall@5", "ndcg@5", "recall@10", "ndcg@10")
PUBLISHED = {
    "Markov, first order": (0.0480, None, 0.0597, None),
    "SASRec": (0.0323, 0.0200, 0.0475, 0.0249),
    "SASRec, tuned elsewhere": (None, None, 0.0740, None),
    "TIGER": (0.0352, 0.0236, 0.0533, 0.0294),
    "LC-Rec": (0.0503, 0.0352, 0.0715, 0.0420),
    "best known": (0.0641, 0.0451, 0.0890, 0.0531),
}
"""Item level over the full catalogue, all 22,363 users, by METRICS. None where it was not printed."""


def load(folder: Path, users: int | None) -> tuple[Catalogue, Histories]:
    """Read the two files; with ``users`` that many users, drawn by a fixed seed, and the items they have."""
    for name in ("items.jsonl", "sequences.tsv"):
        if not (folder / name).is_file():
            raise DataError(f"{folder / name}: no such file; give the folder with items.jsonl and sequences.tsv")
    items = pl.read_ndjson(folder / "items.jsonl").with_columns(pl.col("id").cast(pl.String))
    names, ids = "user_id", "items"
    sequences = pl.read_csv(
        folder / "sequences.tsv", separator="\t", has_header=False, new_columns=[names, ids], infer_schema=False
    )
    if users is not None and users < len(sequences):
        drawn = np.sort(np.random.default_rng(0).permutation(len(sequences))[:users])
        sequences = sequences[drawn]
        there = sequences.select(pl.col(ids).str.split(" ").explode()).to_series().unique()
        items = items.filter(pl.col("id").is_in(there.implode()))
    catalogue = Catalogue.from_frame(items, item_id="id", text=("title", "categories"))
    return catalogue, Histories.from_sequences(sequences, catalogue, user_id=names, items=ids, unknown="error")


def plain_chain(histories: Histories) -> tuple[float, float]:
    """Recall@5 and @10 of a first-order chain without back-off, equal counts in order of first occurrence.

    On the whole file it gives the published .0480 and .0597, which says that file and split are those of the published
    figures. The system ``markov`` breaks ties by popularity and leaves out the user's own items, and so is better.
    """
    ends = histories.offsets[1:]
    after: dict[int, Counter[int]] = defaultdict(Counter)
    for start, end in zip(histories.offsets[:-1].tolist(), (ends - 2).tolist(), strict=True):
        own = histories.items[start:end].tolist()
        for first, second in itertools.pairwise(own):
            after[first][second] += 1
    lists = {first: [item for item, _ in found.most_common(10)] for first, found in after.items()}
    cases = list(zip(histories.items[ends - 2].tolist(), histories.items[ends - 1].tolist(), strict=True))
    hits = [lists[last].index(target) for last, target in cases if target in lists.get(last, [])]
    return sum(place < 5 for place in hits) / len(cases), len(hits) / len(cases)


def work(arguments: argparse.Namespace) -> Results:
    """Compare, or go on comparing, in this process and one for each cell."""
    catalogue, histories = load(arguments.folder, arguments.users)
    note = f"{arguments.users} users of the file and their items" if arguments.users is not None else "the whole file"
    data = ComparisonData("Amazon Beauty 2014", "amazon", catalogue, histories, (note,), None, arguments.folder)
    five, ten = plain_chain(histories)
    print(f"plain first-order chain: recall@5 {five:.4f}, recall@10 {ten:.4f} (published .0480 and .0597)", flush=True)
    config = ComparisonConfig.assembled("amazon", arguments.config)
    command = shlex.join(["python", *sys.argv])
    names = arguments.systems.split(",")
    seeds = tuple(int(seed) for seed in arguments.seeds.split(","))
    grid = Grid(resolve(names), seeds, arguments.jobs, arguments.threads, command)
    options = RunOptions(device=arguments.device, dtype=arguments.dtype, progress=False)
    return compare(data, config, grid, arguments.out, options, lambda line: print(line, flush=True))


def figures(results: Results, *, whole: bool) -> str:
    """Our figures, and those published for the whole file under them."""
    rows: list[tuple[str, list[float | None]]] = []
    if results.ranking is not None:
        for name, system in results.ranking.systems.items():
            rows.append((name, [system.item_level[m].value for m in METRICS]))
    rows += [(f"[{name}]", list(values)) for name, values in PUBLISHED.items()]
    width = max(len(name) for name, _ in rows)
    lines = [" ".join([" " * width, *(f"{metric:>9}" for metric in METRICS)])]
    lines += [
        " ".join([f"{name:<{width}}", *(f"{value:9.4f}" if value is not None else " " * 8 + "-" for value in values)])
        for name, values in rows
    ]
    lines.append("[...]: published for this file" + ("" if whole else "; OURS ARE OF FEWER USERS AND DO NOT COMPARE"))
    return "\n".join(lines)


def in_time(arguments: argparse.Namespace) -> int:
    """Run the same command without a limit as a child, and stop it, with its own children, when the time is over."""
    command = [sys.executable, *sys.argv, "--minutes", "0"]
    deadline = time.monotonic() + 60 * arguments.minutes
    child = subprocess.Popen(command, start_new_session=True)
    try:
        return child.wait(deadline - time.monotonic())
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        _stop(child)
    finished = sum(1 for _ in arguments.out.glob("stages/*/done.json"))
    print(
        f"stopped; {finished} stages are finished, and checkpoints of the others are kept. Go on with the same command:"
    )
    print("  " + shlex.join(["python", *sys.argv]))
    return STOPPED


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Ask the child to end (it then ends its cells); what is left of its session after a while is killed."""
    child.terminate()
    try:
        child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder to make, or to go on with")
    parser.add_argument("--systems", default="retrieval", help="names or groups, divided by commas")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--config", type=Path, default=HERE / "beauty-cpu.json", help="settings over preset amazon")
    parser.add_argument("--users", type=int, help="only so many users, drawn by a fixed seed, and their items")
    parser.add_argument("--minutes", type=float, default=0, help="stop after so long; 0 sets no limit")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time")
    parser.add_argument("--threads", type=int, help="CPU threads of each")
    return parser.parse_args(words)


def main() -> int:
    """Run; 0 when finished, 75 when stopped by the time, 2 for an error of the user's."""
    arguments = parse(sys.argv[1:])
    if arguments.minutes > 0:
        return in_time(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGINT is ignored by what shells run in the background
    try:
        results = work(arguments)
    except StorerecError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return STOPPED
    print(figures(results, whole=arguments.users is None))
    return 0


if __name__ == "__main__":
    sys.exit(main())
