"""Peak memory of a program and of all that it started, read from /proc every half second."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Self

import psutil


def peak_resident() -> int:
    """Most bytes that this process had resident at a time (VmHWM; a child's ru_maxrss begins at its parent's)."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0


class TreePeak:
    """Most bytes of this process and its descendants together, each page counted once (PSS).

    Attributes
    ----------
    bytes: the most that a look saw.
    """

    def __init__(self, every: float = 0.5) -> None:
        self.bytes, self._every, self._over = 0, every, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._over.wait(self._every):
            self.bytes = max(self.bytes, sum(_pss(one.pid) for one in (me, *me.children(recursive=True))))


def _pss(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    except OSError:  # it has just ended
        pass
    return 0
