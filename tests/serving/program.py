"""The program ``storerec serve`` as a process of its own."""

import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager

PROGRAM = [sys.executable, "-c", "from storerec.cli import main; main()", "serve"]


class Program:
    """A running service.

    Attributes
    ----------
    url: where it listens.
    lines: what it has said so far.
    """

    def __init__(self, folder, *flags, own_session=False, **environment):
        self.process = subprocess.Popen(
            [*PROGRAM, str(folder), "--port", "0", "--device", "cpu", *map(str, flags)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            start_new_session=own_session,
        )
        self.lines, self.url = [], None
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if match := re.match(r"ready at (\S+);", line):
                self.url = match[1]
                self._ready.set()
        self._ready.set()

    def wait_ready(self):
        assert self._ready.wait(60)
        assert self.url, self.lines
        return self

    def end(self, number):
        """Send a signal and wait for the end: the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(60)
        self._reader.join(10)
        return code


@contextmanager
def program(folder, *flags, **environment):
    """A service that is ready."""
    running = Program(folder, *flags, **environment)
    try:
        yield running.wait_ready()
    finally:
        running.process.kill()
        running.process.wait(10)
