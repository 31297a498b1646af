"""The service under mixed load from many clients, with a ``kill -9`` half way, and what must hold all the same.

    python -m benchmarks.load --run runs/demo --seconds 60 --clients 64 --out runs/bench

A copy of a finished run's bundle and journal is served by ``storerec serve`` with its own settings, in a process of its
own. Clients ask one request after the other: mostly lists, and scores, additions, removals, lookups, searches. After
half of the seconds the service's process group is killed with SIGKILL and started again at the same port while clients
go on; the second half begins when it is ready. In the end every item is looked up, and the service is stopped.

Printed and written are answers by status, the proofs (``benchmarks.load_record``; exit code 1 where one fails),
requests a second and waiting times of each kind, and the service's memory. Memory is called flat where the line fitted
to its samples, without the first third of each life, rises by less than 2% of its size, or by less than 16 MiB.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.harness import arguments, row, write
from benchmarks.load_record import Item, Record, answers, changes, proofs, rates
from benchmarks.load_traffic import MIX, Traffic
from storerec.bundle import MANIFEST
from storerec.pipeline import load_inspection

MIB = 2**20
FLAT_SHARE, FLAT_MIB = 0.02, 16.0
"""A rise of memory below the larger of these, a share of its size and a number of MiB, is called flat."""

_START_SECONDS = 120
_CHECKERS = 8
"""Clients that look up all items in the end."""


class Served:
    """``storerec serve`` on a bundle, at one port through all of its lives.

    Attributes
    ----------
    lives: seconds and bytes of memory of each process, once a second from when it was ready.
    """

    def __init__(self, bundle: Path, *flags: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [
            sys.executable, "-c", "from storerec.cli import main; main()", "serve", str(bundle),
            "--port", str(self.port), "--device", "cpu", *flags,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self.lives: list[list[tuple[float, int]]] = []

    async def start(self) -> None:
        """Start a process, and wait until it answers."""
        self._process = subprocess.Popen(self._command, start_new_session=True)
        async with httpx.AsyncClient(base_url=self.url) as http, asyncio.timeout(_START_SECONDS):
            while True:
                await asyncio.sleep(0.1)
                if self._process.poll() is not None:
                    raise SystemExit(f"the service ended with code {self._process.returncode}: {self._command}")
                try:
                    if (await http.get("/readyz")).status_code == 200:
                        break
                except httpx.TransportError:
                    continue
        self.lives.append([])
        self._ready = True

    async def watch(self) -> None:
        """Note memory once a second, of whichever process runs."""
        while True:
            if self._ready and self._process is not None:
                size = psutil.Process(self._process.pid).memory_info().rss
                self.lives[-1].append((time.monotonic(), size))
            await asyncio.sleep(1.0)

    def end(self, number: int) -> int:
        """Send a signal to the process group, and wait for the end: the exit code."""
        assert self._process is not None
        self._ready = False
        os.killpg(self._process.pid, number)
        return self._process.wait(60)

    def kill(self) -> None:
        """End whatever runs."""
        if self._process is not None and self._process.poll() is None:
            self.end(signal.SIGKILL)


async def load(
    bundle: Path, *, seconds: float, clients: int, seed: int = 0, flags: Sequence[str] = ()
) -> tuple[Record, dict[str, Any]]:
    """Serve ``bundle``, which is changed by that, load it, and tell what came of it."""
    served, record = Served(bundle, *flags), Record(items_before(bundle))
    limits = httpx.Limits(max_connections=clients, keepalive_expiry=2.0)  # before the server closes an idle connection
    begun = time.process_time()
    try:
        await served.start()
        async with httpx.AsyncClient(base_url=served.url, timeout=60, limits=limits) as http:
            about = (await http.get("/v1/about")).json()
            names = [one["name"] for one in about["attributes"]]
            title = about["title_attribute"]
            traffic = Traffic(http, record, names, title, max_k=min(50, about["max_k"]), seed=seed)
            up = await _halves(served, traffic, seconds, clients)
            spent = time.process_time() - begun
            await look_up_all(traffic)
        code = served.end(signal.SIGTERM)
    finally:
        served.kill()
    found = proofs(record)
    found.append({"what": "SIGTERM ends it with code 0", "tried": 1, "broken": int(code != 0), "first": []})
    return record, {
        "seconds_up": up,
        "seconds_down": sum(end - begin for begin, end in record.outages),
        "answers": answers(record),
        "proofs": found,
        "changes": changes(record),
        "requests": rates(record, up),
        "memory": [memory(life, record) for life in served.lives],
        "cpu_share_of_clients": spent / (up + sum(end - begin for begin, end in record.outages)),
    }


async def _halves(served: Served, traffic: Traffic, seconds: float, clients: int) -> float:
    """Load it, kill it half way, and load it again: seconds that it was up."""
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(served.watch())
        begun = time.monotonic()
        for number in range(clients):
            tasks.create_task(traffic.client(number))
        await asyncio.sleep(seconds / 2)
        killed = time.monotonic()
        traffic.record.outages.append((killed, inf))  # clients meet it before it is over
        served.end(signal.SIGKILL)
        await served.start()
        ready = time.monotonic()
        traffic.record.outages[-1] = (killed, ready)
        await asyncio.sleep(seconds / 2)
        traffic.going = False
        ended = time.monotonic()
        watching.cancel()
    return killed - begun + ended - ready


async def look_up_all(traffic: Traffic) -> None:
    """Look up every item that there was or may be, however often that is refused."""
    left = iter(list(traffic.record.items))

    async def checker() -> None:
        for item_id in left:
            while (await traffic.lookup(item_id, "check")).status in (429, 503):
                await asyncio.sleep(0.2)

    await asyncio.gather(*(checker() for _ in range(_CHECKERS)))


def items_before(bundle: Path) -> dict[str, Item]:
    """The items there are before the load; those removed before it were removed for ever."""
    there = load_inspection(bundle)
    catalogue, removed = there.catalogue, there.removed.tolist()
    return {
        item_id: Item(item_id, title, remove_sent=-inf if gone else inf, remove_got=-inf if gone else inf)
        for item_id, title, gone in zip(catalogue.ids, catalogue.titles, removed, strict=True)
    }


def memory(samples: Sequence[tuple[float, int]], record: Record) -> dict[str, Any]:
    """Memory of one life of the service, in MiB, and how it grew after the first third."""
    if not samples:
        return {"samples": 0}
    times, sizes = np.array([when for when, _ in samples]), np.array([size for _, size in samples]) / MIB
    told = {
        "samples": len(samples), "first_mib": float(sizes[0]), "last_mib": float(sizes[-1]),
        "each_mib": sizes.round(1).tolist(),
    }  # fmt: skip
    warm = times >= times[0] + (times[-1] - times[0]) / 3
    if warm.sum() < 3:
        return told
    a_minute = 60 * float(np.polyfit(times[warm], sizes[warm], 1)[0])
    begin, end = float(times[warm][0]), float(times[-1])
    rise = a_minute * (end - begin) / 60
    added = sum(begin <= item.add_got <= end for item in record.items.values())
    flat = rise < max(FLAT_MIB, FLAT_SHARE * float(sizes[warm][0]))
    return told | {
        "after_warm_up_seconds": end - begin, "mib_a_minute": a_minute, "rise_mib": rise,
        "items_added_a_minute": added * 60 / (end - begin), "flat": flat,
    }  # fmt: skip


@contextmanager
def copied(run: Path) -> Iterator[Path]:
    """A copy of a run's bundle, or of a bundle, with its journal: the folder to serve."""
    bundle = run if (run / MANIFEST).exists() else run / "bundle"
    with tempfile.TemporaryDirectory() as temporary:
        shutil.copytree(bundle, Path(temporary) / bundle.name)
        for journal in bundle.parent.glob(f"{bundle.name}.changes.sqlite*"):  # with the log that SQLite keeps beside it
            shutil.copy(journal, temporary)
        yield Path(temporary) / bundle.name


def main() -> None:
    """Load, tell, and end with 1 where a proof failed."""
    given = arguments(
        __doc__, run=("runs/demo", "finished run folder, or a bundle"), seconds=(60.0, "seconds of load, both halves"),
        clients=(64, "clients at a time"), seed=(0, "seed of what is asked"),
    )  # fmt: skip
    with copied(Path(given.run)) as bundle:
        _, told = asyncio.run(load(bundle, seconds=given.seconds, clients=given.clients, seed=given.seed))
    for kind, counts in told["answers"].items():
        print(f"{kind}: {counts}")
    for life, found in enumerate(told["memory"], 1):
        print(f"memory, life {life}: { {name: value for name, value in found.items() if name != 'each_mib'} }")
    print(f"changes: {told['changes']}; CPU of all clients: {told['cpu_share_of_clients']:.2f} of a core")
    lines = [
        row(
            f"{kind} beside {given.clients - 1} other clients", one["p50_ms"] / 1e3, None, bound=one["p99_ms"] / 1e3,
            goal=0.0, counted="the bound column holds the 99th percentile",
            same=f"{one['requests']} answers, {one['per_second']:.1f} a second",
        )
        for kind, one in told["requests"].items()
    ]  # fmt: skip
    write("load", given, lines, mix=MIX, **told)
    for proof in told["proofs"]:
        print(
            "BROKEN" if proof["broken"] else "ok", f"{proof['what']}: {proof['tried']} tried", *proof["first"], sep="; "
        )
    sys.exit(any(proof["broken"] for proof in told["proofs"]))


if __name__ == "__main__":
    main()
