"""Results of stages on disk, named by all that decides them: made once, shared by every system that needs them."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from storerec.storage import write_json

DONE = "done.json"


class Stages:
    """A folder of stage results.

    A stage is a kind and an identity: the settings, seed and earlier stages that decide its result. Equal identities
    share one folder, so a stage that several systems need is made once, and a call after a kill finds what is finished.

    Parameters
    ----------
    root: where the folders are.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, kind: str, identity: dict[str, Any]) -> Path:
        """Where the result of a stage is, or will be."""
        text = json.dumps(identity, sort_keys=True, allow_nan=False)
        return self.root / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def done(self, folder: Path) -> bool:
        """Whether a stage's result is complete."""
        return (folder / DONE).is_file()

    def ensure(self, kind: str, identity: dict[str, Any], make: Callable[[Path], Any]) -> Path:
        """Return the folder of a stage's result; ``make(folder)`` writes it unless it stands.

        Processes that need the same stage at once wait for the one that makes it. A stage that was interrupted is made
        again in the same folder, where it may find its own checkpoints.
        """
        folder = self.folder(kind, identity)
        if self.done(folder):
            return folder
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / f".{folder.name}.lock"):
            if not self.done(folder):
                resumed = folder.exists()
                folder.mkdir(exist_ok=True)
                write_json(folder / "identity.json", identity)
                started = time.monotonic()
                facts = make(folder) or {}
                seconds = time.monotonic() - started
                write_json(folder / DONE, {"seconds": seconds, "resumed": resumed} | facts)
        return folder

    def facts(self, folder: Path) -> dict[str, Any]:
        """What ``make`` returned, with ``seconds`` it took and ``resumed``: whether an interrupted try went before."""
        return json.loads((folder / DONE).read_text(encoding="utf-8"))
