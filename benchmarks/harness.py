"""What the benchmarks share: timing two ways of doing one thing in turn, this machine's matmul rate, results as JSON.

Each script is run as ``python -m benchmarks.NAME --out FOLDER`` and writes ``FOLDER/NAME.json``: the machine, and rows
of

    what        what is measured, in words
    ours        seconds our way takes (median of the rounds)
    other       seconds the other way takes, None where a limit is the measure
    ratio       other / ours
    bound       the ratio (or the seconds) that counting tokens or bytes allows; how it is counted stands in "counted"
    goal        what the project set itself, for the ratio or the seconds
    same        how the two ways were found to give the same answer
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from storerec.storage import write_json


def arguments(about: str | None, **options: tuple[Any, str]) -> argparse.Namespace:
    """The command line: ``--out``, ``--rounds``, ``--threads`` and each of ``options`` (default, help)."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder for the result (runs/bench)")
    parser.add_argument("--rounds", type=int, default=2, help="times each way is run, in turn (2)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves it to torch")
    for name, (default, words) in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=words)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    return given


_MOST_OFTEN = 5
"""Times that a short way is run in a round."""


def in_turn(ways: dict[str, Callable[[], Any]], rounds: int, *, warm: bool = True) -> dict[str, float]:
    """Median seconds of each way; they take turns, so that a machine that slows down slows all of them."""
    if warm:
        for way in ways.values():
            way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        longest = max((spent[-1] for spent in seconds.values() if spent), default=0.0)
        for name, way in ways.items():
            # what is short is run several times a round, up to a quarter of what the longest takes
            often = min(_MOST_OFTEN, int(longest / 4 / seconds[name][-1])) if seconds[name] else 1
            for _ in range(max(1, often)):
                started = time.perf_counter()
                way()
                _finish()
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(spent) for name, spent in seconds.items()}


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def matmul_rate(rows: int, width: int, out: int, dtype: torch.dtype = torch.float32, *, rounds: int = 20) -> float:
    """Floating-point operations a second of one product (rows, width) x (width, out), the fastest of the rounds."""
    left, right = torch.randn(rows, width, dtype=dtype), torch.randn(out, width, dtype=dtype)
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        torch.nn.functional.linear(left, right)
        best = min(best, time.perf_counter() - started)
    return 2 * rows * width * out / best


def layers_rate(layers: torch.nn.Module, rows: int, *, rounds: int = 5) -> float:
    """Operations a second of only the products of ``layers``, at their own shapes and ``rows`` tokens at a time."""
    maps = [module for module in layers.modules() if isinstance(module, torch.nn.Linear)]
    inputs = {width: torch.randn(rows, width) for width in {one.in_features for one in maps}}
    best = float("inf")
    with torch.no_grad():
        for _ in range(rounds):
            started = time.perf_counter()
            for one in maps:
                torch.nn.functional.linear(inputs[one.in_features], one.weight)
            best = min(best, time.perf_counter() - started)
    return sum(2 * rows * one.in_features * one.out_features for one in maps) / best


def row(
    what: str, ours: float, other: float | None, *, bound: float, counted: str, goal: float, same: str, **more: Any
) -> dict[str, Any]:
    """One line of results."""
    ratio = None if other is None else other / ours
    return {
        "what": what, "ours": ours, "other": other, "ratio": ratio, "bound": bound, "counted": counted, "goal": goal,
        "same": same,
    } | more  # fmt: skip


def curve(title: str, across: str, up: str, sizes: Sequence[float], **lines: Sequence[float]) -> dict[str, Any]:
    """Cost against size, for the plot: one line a name, over ``sizes``; pass several to :func:`write` as ``curves``."""
    return {
        "title": title,
        "across": across,
        "up": up,
        "sizes": list(sizes),
        "lines": {k: list(v) for k, v in lines.items()},
    }


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def write(
    name: str, given: argparse.Namespace, rows: Sequence[dict[str, Any]], script: str | None = None, **facts: Any
) -> None:
    """Print the rows and write them to ``--out``; ``script`` is what was run, where it has another name."""
    for one in rows:
        print(told(one))
    command = " ".join(["python", "-m", f"benchmarks.{script or name}", *sys.argv[1:]])
    write_json(
        given.out / f"{name}.json",
        json.loads(json.dumps({"command": command, "machine": machine(), "rows": list(rows)} | facts)),
    )


def told(one: dict[str, Any]) -> str:
    """A row as a line of text."""
    unit = one.get("unit", "s")
    if one["ratio"] is None:
        return (
            f"{one['what']}: {one['ours']:.4g} {unit} (bound {one['bound']:.4g}, goal {one['goal']:.4g}); {one['same']}"
        )
    return (
        f"{one['what']}: {one['ours']:.4g} {unit} against {one['other']:.4g} {unit}, {one['ratio']:.2f}x "
        f"(bound {one['bound']:.2f}x, goal {one['goal']:.2f}x); {one['same']}"
    )
