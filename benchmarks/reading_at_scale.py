"""Items and events from Parquet folders on both engines: seconds, memory, and whether the histories are the same.

    python -m benchmarks.reading_at_scale --items 2000000 --users 1000000 --events 2000000 --tenfold --out runs/bench

Tables are made here: users and items drawn at random, some users far more often than others, times nearly in order, one
event in a hundred of an item that the catalogue lacks. Each engine reads in a process of its own. ``program_mib`` is
its largest resident memory while events are read, the catalogue included. The others are the largest seen while the
processes are looked at four times a second: ``program_own_mib`` without pages of Ray's object store, which processes
share, ``worker_own_mib`` the same of one worker, ``workers_own_mib`` of all processes that Ray started together (when
the store is full there are some more, which write and read its files), and ``workers_mib`` of these with the shared
pages, counted in each. The object store is held at ``--store`` bytes; Ray writes what does not fit to disk.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pyarrow as pa

from storerec.data import Histories, read_events, read_items
from storerec.storage import write_json

FILE_ROWS, GROUP_ROWS, EVERY = 1_000_000, 100_000, 0.25


def make_items(folder: Path, items: int) -> None:
    """Items with a title each."""
    folder.mkdir()
    for start in range(0, items, FILE_ROWS):
        number = pl.int_range(start, min(start + FILE_ROWS, items), eager=True)
        frame = pl.select(item_id=pl.format("item-{}", number), title=pl.format("Thing number {} of a shop", number))
        frame.write_parquet(folder / f"part-{start // FILE_ROWS:05}.parquet")


def make_events(folder: Path, events: int, users: int, items: int) -> None:
    """Events in files of a million, each drawn with a seed of its own."""
    folder.mkdir()
    for start in range(0, events, FILE_ROWS):
        rows = min(FILE_ROWS, events - start)
        rng = np.random.default_rng(start)
        # cubed: the most frequent hundredth of the users have a fifth of the events
        user = (users * rng.random(rows) ** 3).astype(np.int64)
        item = (items * 1.01 * rng.random(rows)).astype(np.int64)
        frame = pl.DataFrame({"user": user, "item": item}).select(
            user_id=pl.format("user-{}", "user"),
            item_id=pl.format("item-{}", "item"),
            timestamp=pl.Series(1_500_000_000 + start // 10 + rng.integers(0, 10_000, rows)),
        )
        frame.write_parquet(folder / f"part-{start // FILE_ROWS:05}.parquet", row_group_size=GROUP_ROWS)


def digest(histories: Histories) -> str:
    """SHA-256 of users, offsets and items."""
    made = hashlib.sha256()
    users = histories.user_ids.to_arrow(compat_level=pl.CompatLevel.oldest())
    whole = pa.concat_arrays(users.chunks) if isinstance(users, pa.ChunkedArray) else users
    for start in range(0, len(whole), FILE_ROWS):
        made.update("\n".join(whole.slice(start, FILE_ROWS).to_pylist()).encode())
    made.update(np.ascontiguousarray(histories.offsets))
    made.update(np.ascontiguousarray(histories.items))
    return made.hexdigest()


def memory(name: str, process: str = "self") -> float:
    """A figure of a process's memory as Linux tells it, in MiB: ``VmHWM`` is the largest resident memory."""
    text = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return int(text.partition(f"{name}:")[2].split()[0]) / 2**10


def forget_peak() -> None:
    """Let the largest resident memory begin anew, so that what was read before does not count."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


@contextlib.contextmanager
def reader(engine: str, workers: int, store: int) -> Iterator[Any]:
    """The engine's ``read_events``; Ray is started before it."""
    if engine == "local":
        yield read_events
        return
    from functools import partial

    from storerec.scale import RayConfig
    from storerec.scale.cluster import connected, needs_ray
    from storerec.scale.reading import read_events as read_on_ray

    ray = needs_ray()
    ray.init(address="local", num_cpus=workers, object_store_memory=store, include_dashboard=False, log_to_driver=False)
    config = RayConfig(workers=workers)
    with connected(config):
        yield partial(read_on_ray, config)
    ray.shutdown()


def measure(engine: str, items: Path, events: Path, workers: int, store: int) -> dict[str, Any]:
    """Read everything in this process."""
    started = time.perf_counter()
    catalogue = read_items(items)
    items_seconds = time.perf_counter() - started
    with reader(engine, workers, store) as read:
        forget_peak()
        before = memory("VmRSS")
        started = time.perf_counter()
        histories = read(events, catalogue)
        seconds = time.perf_counter() - started
        peak = memory("VmHWM")
    return {
        "engine": engine, "items": len(catalogue), "users": len(histories), "events_kept": histories.items.size,
        "items_seconds": items_seconds, "events_seconds": seconds, "program_mib": peak, "program_before_mib": before,
        "digest": digest(histories),
    }  # fmt: skip


def watched(command: list[str]) -> dict[str, Any]:
    """Run a measurement and look at it and at Ray's workers meanwhile."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    largest = dict.fromkeys(("program_own_mib", "worker_own_mib", "workers_own_mib", "workers_mib"), 0.0)
    root = psutil.Process(process.pid)
    while process.poll() is None:
        workers = [_memory_of(child) for child in _workers(root)]
        own = [one for _, one in workers]
        now = (_memory_of(root)[1], max(own, default=0.0), sum(own), sum(whole for whole, _ in workers))
        largest = {name: max(old, new) for (name, old), new in zip(largest.items(), now, strict=True)}
        time.sleep(EVERY)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    assert process.stdout is not None
    return json.loads(process.stdout.read().splitlines()[-1]) | largest


def _workers(root: psutil.Process) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        for child in root.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "".join(child.cmdline()[:1]).startswith("ray::"):
                    yield child


def _memory_of(process: psutil.Process) -> tuple[float, float]:
    """Resident memory in MiB, and that without shared pages; zeros where the process ended meanwhile."""
    try:
        whole = memory("VmRSS", str(process.pid))
        return whole, whole - memory("RssShmem", str(process.pid))
    except (OSError, IndexError):
        return 0.0, 0.0


def main() -> None:
    """Measure every size on both engines, each in its own process."""
    if sys.argv[1:2] == ["one"]:
        engine, items, events, workers, store = sys.argv[2:]
        print(json.dumps(measure(engine, Path(items), Path(events), int(workers), int(store))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder for the result (runs/bench)")
    parser.add_argument("--items", type=int, default=2_000_000, help="items of the catalogue (2,000,000)")
    parser.add_argument("--users", type=int, default=1_000_000, help="users to draw from (1,000,000)")
    parser.add_argument("--events", type=int, default=2_000_000, help="events (2,000,000)")
    parser.add_argument("--tenfold", action="store_true", help="ten times as many events, too")
    parser.add_argument("--workers", type=int, default=2, help="Ray's workers (2)")
    parser.add_argument("--store", type=int, default=1 << 30, help="bytes of Ray's object store (1 GiB)")
    given = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_items(folder / "items", given.items)
        for events in [given.events, 10 * given.events] if given.tenfold else [given.events]:
            table = folder / f"events-{events}"
            make_events(table, events, given.users, given.items)
            size = sum(file.stat().st_size for file in table.iterdir()) / 2**20
            pair = []
            for engine in ("local", "ray"):
                places = [str(folder / "items"), str(table), str(given.workers), str(given.store)]
                command = [sys.executable, "-W", "ignore", "-m", "benchmarks.reading_at_scale", "one", engine, *places]
                pair.append({"events": events, "table_mib": size} | watched(command))
            same = pair[0]["digest"] == pair[1]["digest"]
            results += [one | {"same": same} for one in pair]
            print(json.dumps(results[-2:], indent=1))
    from benchmarks.harness import machine  # it brings torch, which the programs measured do not need

    command = " ".join(["python", "-m", "benchmarks.reading_at_scale", *sys.argv[1:]])
    write_json(given.out / "reading_at_scale.json", {"command": command, "machine": machine(), "results": results})
    if not all(one["same"] for one in results):
        raise SystemExit("the engines' histories differ")


if __name__ == "__main__":
    main()
