"""The files of the page, read once into memory: what is asked for later is looked up among them and nowhere else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".md": "text/plain",
}

_START = "index.html"


@dataclass(frozen=True)
class PageFile:
    """A file of the page: its content, what it is, and a name of this very content (ETag)."""

    content: bytes
    media_type: str
    etag: str


def page_files() -> dict[str, PageFile]:
    """All files of the page by the path they are asked for: ``/`` and ``/static/...``."""
    found = {}
    for name, entry in _below(files("storerec.serving") / "web"):
        content = entry.read_bytes()
        media_type = _TYPES[name[name.rindex(".") :]]
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        found["/" if name == _START else f"/static/{name}"] = PageFile(content, media_type, etag)
    return found


def _below(folder: Traversable, before: str = "") -> Iterator[tuple[str, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        if entry.is_dir():
            yield from _below(entry, f"{before}{entry.name}/")
        else:
            yield before + entry.name, entry
