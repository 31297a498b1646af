"""A code table and its tree built in memory and out of core, and mapped by two servers at a time.

    python -m benchmarks.tree_files --items 1000000 --out runs/bench

Codes are drawn as in benchmarks/tree_scale.py, 4 positions of 256, and lie in a file. Each way of building is a process
of its own, which saves what a bundle holds; its memory is the largest that no file stands behind (RssAnon), less that
before, looked at every 5 milliseconds. Two more processes then map those files, each makes the search's tree, walks it
for 200 users of 20 beams and looks up the items; memory of the files is by /proc/self/smaps while both live.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import arguments, row, write
from benchmarks.tree_scale import POSITIONS, drawn, step_seconds
from storerec.codes import CodeTable, CodeTree, external
from storerec.recommender.tree import TorchTree
from storerec.storage import map_arrays, save_arrays

CODES, USERS, MIB = 256, 200, 2**20
FILES = ("table", "tree")


def anonymous() -> float:
    """Memory of this process that no file stands behind, in MiB."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(text.partition("RssAnon:")[2].split()[0]) / 1024


@contextmanager
def peak(found: dict[str, float]) -> Iterator[None]:
    """Write seconds and the growth of :func:`anonymous` at its largest into ``found``."""
    before, most, done = anonymous(), [0.0], threading.Event()

    def look() -> None:
        while not done.wait(0.005):
            most[0] = max(most[0], anonymous())

    watcher = threading.Thread(target=look)
    watcher.start()
    started = time.perf_counter()
    yield
    found["seconds"] = time.perf_counter() - started
    done.set()
    watcher.join()
    found["anonymous_mib"] = max(most[0], anonymous()) - before


def build(folder: Path, way: str) -> dict[str, Any]:
    """Build from the file of codes, save, and tell what it took."""
    codes = np.load(folder / "codes.npy", mmap_mode="r")
    external.LARGE = 0
    work = folder / "work" if way == "files" else None
    found: dict[str, Any] = {}
    with peak(found):
        table = CodeTable.build(codes, (CODES,) * POSITIONS, folder=work)
        tree = CodeTree.from_table(table, folder=work)
        tables = table.arrays(derived=True), tree.arrays(derived=True)
    for name, arrays in zip(FILES, tables, strict=True):
        save_arrays(folder / f"{way}-{name}.safetensors", arrays)
    return found | {"tuples": len(table.tuples)}


def mapped_memory(folder: Path) -> dict[str, float]:
    """Of the files mapped by this process, in MiB: read, read by others too, and its own alone."""
    wanted = {"Rss": 0.0, "Pss": 0.0, "Shared_Clean": 0.0, "Private_Clean": 0.0, "Private_Dirty": 0.0}
    ours = False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        name = line.split(maxsplit=1)[0]
        if not name.endswith(":"):
            ours = str(folder) in line
        elif ours and name[:-1] in wanted:
            wanted[name[:-1]] += int(line.split()[1]) / 1024
    return wanted


def serve(folder: Path) -> None:
    """Map what was built, search, wait for the other server, and tell the memory it takes."""
    torch.set_num_threads(1)
    # what the first search of a process takes whatever the table, is taken before
    small = CodeTree.from_table(CodeTable.build(drawn(1000, CODES), (CODES,) * POSITIONS))
    step_seconds([TorchTree(small, torch.device("cpu"))], 2)
    before, started = anonymous(), time.perf_counter()
    table, tree = (map_arrays(folder / f"files-{name}.safetensors") for name in FILES)
    codes, source = CodeTable.from_arrays(table), CodeTree.from_arrays(tree)
    loaded = time.perf_counter()
    searched = TorchTree(source, torch.device("cpu"))
    ready = time.perf_counter()
    step_seconds([searched], USERS)
    rng = np.random.default_rng(0)
    for leaf in rng.integers(0, len(codes.tuples), USERS * 20).tolist():
        codes.shares[codes.bucket(leaf)].sum()
    print("searched", flush=True)
    sys.stdin.readline()  # until the other one has searched too
    found = {
        "load_ms": 1000 * (loaded - started),
        "ready_ms": 1000 * (ready - loaded),
        "anonymous_mib": anonymous() - before,
        **{f"files_{name.lower()}_mib": value for name, value in mapped_memory(folder).items()},
    }
    print(json.dumps(found), flush=True)
    sys.stdin.readline()  # until the other one has looked too


def start(*words: str) -> subprocess.Popen[str]:
    """Run the script as another process."""
    command = [sys.executable, "-m", "benchmarks.tree_files", *words]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def servers(folder: Path) -> list[dict[str, Any]]:
    """Two servers of the same files, and what each tells while both live."""
    both = [start("serve", str(folder)) for _ in range(2)]
    if any(told(one) != "searched\n" for one in both):
        raise SystemExit("a server failed")
    for one in both:
        say(one)
    found = [json.loads(told(one)) for one in both]
    for one in both:
        one.communicate("\n")
    return found


def told(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints, empty where it has ended."""
    return process.stdout.readline() if process.stdout else ""


def say(process: subprocess.Popen[str]) -> None:
    """Let a process go on that waits for a line."""
    if process.stdin:
        process.stdin.write("\n")
        process.stdin.flush()


def differences(folder: Path) -> list[str]:
    """Names of arrays that differ; shares may in their last digit."""
    wrong = []
    for name in FILES:
        one, other = (map_arrays(folder / f"{way}-{name}.safetensors") for way in ("memory", "files"))
        wrong += [f"{name}: {key}" for key in one.keys() ^ other.keys()]
        for key, array in one.items():
            same = np.allclose(array, other[key], atol=1e-6) if key == "shares" else np.array_equal(array, other[key])
            wrong += [] if same and array.dtype == other[key].dtype else [f"{name}: {key}"]
    return wrong


def measure(folder: Path, items: int) -> dict[str, Any]:
    """All figures."""
    np.save(folder / "codes.npy", drawn(items, CODES))
    built = {}
    for way in ("memory", "files"):
        built[way] = json.loads(start("build", str(folder), way).communicate()[0])
    if wrong := differences(folder):
        raise SystemExit(f"built out of core, these differ: {', '.join(wrong)}")
    sizes = {name: (folder / f"files-{name}.safetensors").stat().st_size / MIB for name in FILES}
    return {"items": items, "build": built, "file_mib": sizes, "servers": servers(folder)}


def main() -> None:
    """Measure, in processes of their own."""
    if len(sys.argv) > 2 and sys.argv[1] in ("build", "serve"):
        folder = Path(sys.argv[2])
        if sys.argv[1] == "serve":
            serve(folder)
        else:
            print(json.dumps(build(folder, sys.argv[3])))
        return
    given = arguments(__doc__, items=(1_000_000, "items of the catalogue"))
    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name), given.items)
    memory, files, size = found["build"]["memory"], found["build"]["files"], sum(found["file_mib"].values())
    slower = max(found["servers"], key=lambda one: one["load_ms"])
    own = max(one["anonymous_mib"] + one["files_private_dirty_mib"] for one in found["servers"])
    lines = [
        row(
            f"table and tree of {given.items:,} items built out of core", files["seconds"], memory["seconds"],
            bound=1.0, counted="built in memory", goal=0.25, same="all arrays equal",
        ),
        row(
            f"memory of building {given.items:,} items out of core", files["anonymous_mib"], None, unit="MiB",
            bound=memory["anonymous_mib"], counted="in memory", goal=1024.0, same="all arrays equal",
        ),
        row(
            f"load of {given.items:,} items by a server", slower["load_ms"], None, unit="ms",
            bound=0.0, counted=f"files of {size:,.0f} MiB, mapped", goal=50.0, same="searches at once",
        ),
        row(
            f"memory that a server of {given.items:,} items shares with no other", own, None, unit="MiB",
            bound=0.0, counted=f"files of {size:,.0f} MiB, of two servers", goal=32.0, same="after 200 searches",
        ),
    ]  # fmt: skip
    write("tree_files", given, lines, **found)


if __name__ == "__main__":
    main()
