"""A limit of so much a minute, shared by threads."""

from __future__ import annotations

import threading
import time


class StoppedError(Exception):
    """The work this waited for was given up."""


class RateLimit:
    """Spaces units evenly: a token bucket that holds no more than the unit at hand, so there are no bursts.

    Parameters
    ----------
    per_minute: units a minute; None sets no limit.
    """

    def __init__(self, per_minute: float | None) -> None:
        self._seconds = 60.0 / per_minute if per_minute else 0.0  # of one unit
        self._free = 0.0  # monotonic time from which on something may start
        self._lock, self._stopped = threading.Lock(), threading.Event()

    def take(self, units: float = 1.0) -> None:
        """Wait for the turn of ``units``; raises StoppedError when :meth:`stop` was called."""
        while True:
            with self._lock:
                now = time.monotonic()
                left = self._free - now
                if left <= 0:
                    self._free = now + units * self._seconds
            if self._stopped.wait(max(left, 0.0)):
                raise StoppedError
            if left <= 0:
                return

    def hold(self, seconds: float) -> None:
        """Let nothing start for ``seconds``: the server asked for it."""
        with self._lock:
            self._free = max(self._free, time.monotonic() + seconds)

    def wait(self, seconds: float) -> None:
        """Wait, without a turn; raises StoppedError when :meth:`stop` was called."""
        if self._stopped.wait(seconds):
            raise StoppedError

    def stop(self) -> None:
        """Wake all that wait, and let nothing start any more."""
        self._stopped.set()
