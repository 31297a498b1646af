"""Signals that ask a program to stop or to reload, taken note of and nothing else."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self


class Signals:
    """Takes SIGTERM, SIGINT and SIGHUP for the length of a block. In other threads than the main one it takes none.

    They only set a flag: an exception in the middle of a call to a cluster would leave half of it behind. A second
    SIGINT interrupts whatever is waited for.

    Attributes
    ----------
    stop: set when the program is to stop.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._hang_up = threading.Event()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Begin to take them."""
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave them to whom they were left before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def take(self) -> None:
        """Take them, again where somebody else has taken them since."""
        if threading.current_thread() is not threading.main_thread():
            return
        for name in ("SIGTERM", "SIGINT", "SIGHUP"):
            if (number := getattr(signal, name, None)) is not None:
                before = signal.signal(number, self._note)
                self._before.setdefault(number, before)

    def taken_hang_up(self) -> bool:
        """Whether there was a SIGHUP since the last call."""
        found = self._hang_up.is_set()
        self._hang_up.clear()
        return found

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == getattr(signal, "SIGHUP", None):
            self._hang_up.set()
            return
        if number == signal.SIGINT and self.stop.is_set():
            raise KeyboardInterrupt
        self.stop.set()
