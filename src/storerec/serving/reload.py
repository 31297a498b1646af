"""Notices that the bundle on disk is another one."""

from __future__ import annotations

import os
from pathlib import Path

from storerec.bundle import MANIFEST


class BundleWatch:
    """Tells when a folder's bundle was replaced since it was last looked at; costs a few calls of the system.

    All of the bundle's files count, so that one which is copied over the old one file by file is found whole in the
    end.

    Parameters
    ----------
    folder: a bundle, or a run folder with one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last = self._stamp()

    def changed(self) -> bool:
        """Whether a bundle is there that was not at the last call, or when this was made."""
        now = self._stamp()
        if now is None or now == self._last:  # while a bundle takes another's place there is none for a moment
            return False
        self._last = now
        return True

    def _stamp(self) -> object:
        """What is different for another bundle; None where there is none."""
        for place in (self._folder, self._folder / "bundle"):
            try:
                if (place / MANIFEST).is_file():
                    files = ((entry.name, entry.stat()) for entry in os.scandir(place))
                    return sorted((name, found.st_ino, found.st_mtime_ns, found.st_size) for name, found in files)
            except OSError:  # it was just being replaced
                continue
        return None
