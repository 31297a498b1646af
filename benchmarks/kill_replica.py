"""Replicas of the service under load while one after the other is killed, and what must hold all the same.

    python -m benchmarks.kill_replica --run runs/demo --kills 10 --ledger 3 --out runs/bench

A copy of a finished run's bundle and journal is served by ``storerec serve --engine ray`` on a cluster of its own.
Clients ask one request after the other, mostly lists, and scores, additions, removals, lookups and searches, and ask
again where the connection was lost or the answer is 429 or 503. Meanwhile a replica chosen by chance is killed with
SIGKILL ``--kills`` times, at a moment chosen by chance after the one before was replaced, and the process that has the
journal ``--ledger`` times in between.

Told are the requests and how many were asked more than once, the proofs of ``benchmarks.load_record`` (lists and
lookups compared with a model of what must be there), items that were lost or written twice, and the seconds from each
kill until all replicas answer again. The file is written anew after each kill. Exit code 1 where something is wrong.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.harness import arguments, machine
from benchmarks.load import copied, items_before, look_up_all
from benchmarks.load_record import Exchange, Record, answers, changes, proofs, rates
from benchmarks.load_traffic import MIX, Traffic
from storerec.bundle.journal import Journal
from storerec.pipeline import load_inspection
from storerec.storage import write_json

_START_SECONDS = 300.0
_REPLICA, _LEDGER = "ray::ServeReplica:storerec", "ray::Ledger"
_AGAIN = (0, 429, 503)
"""Outcomes that ask for another attempt; 0 is a lost connection."""


class Insistent(Traffic):
    """Clients that ask again until they are answered.

    Attributes
    ----------
    attempts: of all requests so far.
    repeated: outcomes that were asked again, and how often.
    """

    attempts = 0

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.repeated: dict[str, int] = {}

    async def _ask(self, method: str, path: str, **request: Any) -> tuple[Exchange, dict[str, Any]]:
        while True:
            self.attempts += 1
            done, body = await super()._ask(method, path, **request)
            if done.status not in _AGAIN:
                return done, body  # its time of sending is the last attempt's, which makes the proofs the stricter
            outcome = f"{done.status or 'no answer'} {done.error}".strip()
            self.repeated[outcome] = self.repeated.get(outcome, 0) + 1
            await asyncio.sleep(0.05)


class Replicas:
    """``storerec serve --engine ray`` on a bundle.

    Attributes
    ----------
    url: where it listens.
    """

    def __init__(self, bundle: Path, count: int) -> None:
        self.count, self.url = count, ""
        self.command = [
            sys.executable, "-c", "from storerec.cli import main; main()", "serve", str(bundle), "--engine", "ray",
            "--workers", str(count), "--port", "0", "--device", "cpu", "--deadline-seconds", "30",
        ]  # fmt: skip
        self._process: subprocess.Popen[str] | None = None

    async def start(self) -> None:
        """Start it, and wait until all replicas answer."""
        pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}  # Ray tells of each kill
        self._process = subprocess.Popen(self.command, **pipes, text=True, start_new_session=True)
        async with asyncio.timeout(_START_SECONDS):
            while not self.url:
                line = await asyncio.to_thread(self._process.stderr.readline)  # type: ignore[union-attr]
                if not line:
                    raise SystemExit(f"it ended with code {self._process.wait()}: {self.command}")
                print(line.rstrip(), file=sys.stderr)
                if found := re.match(r"ready at (\S+);", line):
                    self.url = found[1]
        asyncio.get_running_loop().run_in_executor(None, self._drain)

    def processes(self, name: str) -> list[psutil.Process]:
        """Those below it whose title begins with ``name``."""
        found = []
        for one in psutil.Process(self._process.pid).children(recursive=True):  # type: ignore[union-attr]
            try:
                if " ".join(one.cmdline()).startswith(name):
                    found.append(one)
            except psutil.Error:
                continue
        return found

    def end(self, number: int) -> int:
        """Send a signal, and wait for the end: the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(120)

    def kill(self) -> None:
        """End whatever of it runs."""
        if self._process is not None and self._process.poll() is None:
            below = psutil.Process(self._process.pid).children(recursive=True)
            for one in [self._process, *below]:
                try:
                    one.kill()
                except psutil.Error:
                    continue

    def _drain(self) -> None:
        for line in self._process.stderr:  # type: ignore[union-attr]
            print(line.rstrip(), file=sys.stderr)


async def names_of(http: httpx.AsyncClient, served: Replicas, before: set[str]) -> set[str]:
    """Names of all replicas, once as many answer as there must be, and not only those of ``before``."""
    found: set[str] = set()
    async with asyncio.timeout(_START_SECONDS):
        while len(found) < served.count or found <= before:
            try:
                answer = await http.post("/v1/recommend", json={"history": [], "k": 1})
            except httpx.TransportError:
                continue
            if answer.status_code == 200:
                found.add(answer.headers["x-replica"])
            await asyncio.sleep(0.01)
    return found


async def kills(
    given: Namespace, served: Replicas, http: httpx.AsyncClient, traffic: Insistent, told: dict[str, Any]
) -> None:
    """Kill one after the other, and note how long each was missed."""
    rng = np.random.default_rng(given.seed)
    victims = [_REPLICA] * given.kills
    for place in sorted(rng.integers(1, given.kills + 1, given.ledger).tolist(), reverse=True):
        victims.insert(place, _LEDGER)
    names = await names_of(http, served, set())
    for number, victim in enumerate(victims, 1):
        await asyncio.sleep(float(rng.uniform(0.5, 3.0)))
        attempts = traffic.attempts
        one = served.processes(victim)[int(rng.integers(len(served.processes(victim))))]
        killed = time.monotonic()
        one.send_signal(signal.SIGKILL)
        names = await names_of(http, served, names if victim == _REPLICA else set())
        back = time.monotonic()
        event = {
            "killed": victim.partition(":storerec")[0].removeprefix("ray::"), "seconds_until_all_answer": back - killed,
            "attempts_meanwhile": traffic.attempts - attempts, "repeated_so_far": dict(traffic.repeated),
        }  # fmt: skip
        told["kills"].append(event)
        print(f"{number} of {len(victims)}: {event}", flush=True)
        write_json(given.out / "kill_replica.json", json.loads(json.dumps(told)))


async def load(given: Namespace, bundle: Path, told: dict[str, Any]) -> tuple[Record, Insistent]:
    """Serve a bundle, load it, kill, look up everything, and stop."""
    served, record = Replicas(bundle, given.replicas), Record(items_before(bundle))
    limits = httpx.Limits(max_connections=given.clients + 2, keepalive_expiry=2.0)
    try:
        await served.start()
        async with httpx.AsyncClient(base_url=served.url, timeout=120, limits=limits) as http:
            about = (await http.get("/v1/about")).json()
            names, title = [one["name"] for one in about["attributes"]], about["title_attribute"]
            traffic = Insistent(http, record, names, title, max_k=min(50, about["max_k"]), seed=given.seed)
            begun = time.monotonic()
            async with asyncio.TaskGroup() as tasks:
                for number in range(given.clients):
                    tasks.create_task(traffic.client(number))
                await kills(given, served, http, traffic, told)
                traffic.going = False
            told["seconds"] = time.monotonic() - begun
            await look_up_all(traffic)
        told["exit_code"] = served.end(signal.SIGTERM)
    finally:
        served.kill()
    return record, traffic


def counted(bundle: Path, record: Record) -> dict[str, Any]:
    """What the folder says in the end against what clients were told."""
    there = load_inspection(bundle)
    known = dict(zip(there.catalogue.ids, there.removed.tolist(), strict=True))
    added = [item for item in record.items.values() if np.isfinite(item.add_got)]
    gone = {item.item_id for item in record.items.values() if item.remove_got < np.inf}
    written = Counter((one.item_id, one.training) for one in Journal.beside(bundle).since() if one.kind == "add")
    return {
        "items_lost": sorted(one.item_id for one in added if known.get(one.item_id, True) and one.item_id not in gone),
        "items_come_back": sorted(item for item in gone if not known.get(item, True)),
        "items_nobody_added": sorted(known.keys() - record.items.keys()),
        "items_written_twice": sorted(item for (item, _), times in written.items() if times > 1),
    }


def main() -> None:
    """Load, kill, tell; 1 where something is wrong."""
    given = arguments(
        __doc__, run=("runs/demo", "finished run folder, or a bundle"), kills=(10, "replicas to kill"),
        ledger=(0, "times to kill the process that has the journal"), replicas=(2, "replicas"),
        clients=(6, "clients at a time"), seed=(0, "seed of what is asked, and of when what is killed"),
    )  # fmt: skip
    command = " ".join(["python", "-m", "benchmarks.kill_replica", *sys.argv[1:]])
    told: dict[str, Any] = {"command": command, "machine": machine(), "mix": MIX, "kills": []}
    with copied(Path(given.run)) as bundle:
        record, traffic = asyncio.run(load(given, bundle, told))
        told |= counted(bundle, record)
    seconds = [one["seconds_until_all_answer"] for one in told["kills"]]
    checked = [one for one in proofs(record) if one["tried"]]
    told |= {
        "requests": len(record.exchanges), "attempts": traffic.attempts, "repeated": traffic.repeated,
        "answers": answers(record), "rates": rates(record, told["seconds"]), "changes": changes(record),
        "proofs": checked, "seconds_until_all_answer": {"median": float(np.median(seconds)), "most": max(seconds)},
    }  # fmt: skip
    write_json(given.out / "kill_replica.json", json.loads(json.dumps(told)))
    for name in ("requests", "attempts", "repeated", "answers", "changes", "seconds_until_all_answer"):
        print(f"{name}: {told[name]}")
    wrong = [name for name in told if name.startswith("items_") and told[name]]
    for name in ("items_lost", "items_come_back", "items_nobody_added", "items_written_twice"):
        print("BROKEN" if told[name] else "ok", f"{name}: {len(told[name])}", *told[name][:5])
    for proof in checked:
        print(
            "BROKEN" if proof["broken"] else "ok", f"{proof['what']}: {proof['tried']} tried", *proof["first"], sep="; "
        )
    sys.exit(bool(wrong or told["exit_code"] or any(proof["broken"] for proof in checked)))


if __name__ == "__main__":
    main()
