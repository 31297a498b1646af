"""The manifest: what a bundle is, what made it, and the size and hash of each of its files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints

from storerec._version import __version__
from storerec.config import Config
from storerec.errors import BundleError, ConfigError

FORMAT_NAME = "storerec-bundle"
"""What the manifest of every bundle calls itself."""

FORMAT_VERSION = 1
"""The newest format this program reads and the one it writes."""

MANIFEST = "manifest.json"
"""Name of the manifest in the folder."""

_AGAIN = "copy the folder again, or make it anew"
_LIBRARIES = ("numpy", "peft", "polars", "safetensors", "scikit-learn", "torch", "transformers")

# Plain names of the two kinds only: no separator, no "..", no hidden file, nothing that could be unpickled.
_FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*\.(json|safetensors)$"

FileName = Annotated[str, StringConstraints(pattern=_FILE_NAME)]


class FileEntry(Config):
    """What the manifest says of one file."""

    size: int = Field(ge=0)
    """Bytes."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the content, in hexadecimal digits."""

    @classmethod
    def of(cls, path: Path) -> Self:
        """Measure a file, reading it in pieces."""
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return cls(size=path.stat().st_size, sha256=digest)

    def check(self, path: Path) -> None:
        """Raise :class:`BundleError` unless ``path`` is there, as long and with the content described."""
        if not path.is_file():
            raise BundleError(f"{path}: this file of the bundle is missing; {_AGAIN}")
        try:
            size = path.stat().st_size
            if size != self.size:
                fault = "truncated" if size < self.size else "too long"
                raise BundleError(f"{path}: {fault}, {size} bytes instead of {self.size}; {_AGAIN}")
            altered = FileEntry.of(path).sha256 != self.sha256
        except OSError as error:
            raise BundleError(f"{path}: cannot be read ({error.strerror})") from None
        if altered:
            raise BundleError(f"{path}: altered since it was written (its SHA-256 differs); {_AGAIN}")


class Manifest(Config):
    """The first file read of a bundle and the last one written."""

    format: str = Field(default=FORMAT_NAME, pattern=f"^{FORMAT_NAME}$")
    """Always ``storerec-bundle``."""

    format_version: int = Field(default=FORMAT_VERSION, ge=1)
    """Version of the folder's layout; raised when older programs could not read it any more."""

    storerec_version: str
    """Version of storerec that wrote the bundle."""

    libraries: dict[str, str]
    """Versions of the libraries that took part, by distribution name; for people, nothing depends on them."""

    files: dict[FileName, FileEntry]
    """All files but the manifest itself, by plain file name."""

    @property
    def training(self) -> str:
        """Identity of the training that gives out codes: of the tokenizer's and the clusters' files."""
        parts = [self.files[f"{name}.safetensors"].sha256 for name in ("tokenizer", "clusterer")]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:32]

    @classmethod
    def describe(cls, folder: Path, names: Iterable[str], *, format_version: int = FORMAT_VERSION) -> Self:
        """Measure the files ``names`` of ``folder``; raises ConfigError for a name that is not plain."""
        files = {name: FileEntry.of(folder / name).model_dump() for name in sorted(names)}
        values = {"format_version": format_version, "storerec_version": __version__, "files": files}
        return cls.parse(values | {"libraries": _library_versions()}, source=str(folder / MANIFEST))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the manifest of a folder.

        Raises
        ------
        BundleError
            The folder or its manifest is missing, the manifest cannot be read, or is of a newer format.
        """
        path = folder / MANIFEST
        if not folder.is_dir():
            raise BundleError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
        if not path.is_file():
            raise BundleError(f"{path}: no such file, so {folder} is no bundle, or not a whole one")
        values = read_json(path)
        if not isinstance(values, dict) or values.get("format") != FORMAT_NAME:
            raise BundleError(f"{path}: not the manifest of a storerec bundle")
        # The version comes before the fields: a newer format may have fields that this program does not know.
        version = values.get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise BundleError(
                f"{path}: format version {version} is newer than this program, which reads up to "
                f"{FORMAT_VERSION}; install a newer storerec"
            )
        try:
            return cls.parse(values, source=str(path))
        except ConfigError as error:
            raise BundleError(f"{' '.join(str(error).split())}; {_AGAIN}") from None

    def check(self, folder: Path) -> None:
        """Check every file; raises :class:`BundleError` that names the first missing, cut or altered one."""
        for name, entry in self.files.items():
            entry.check(folder / name)


def is_plain(name: str) -> bool:
    """Say whether a bundle may hold a file of this name."""
    return re.fullmatch(_FILE_NAME, name) is not None and name != MANIFEST


def read_json(path: Path) -> Any:
    """Read one JSON file of a bundle; raises :class:`BundleError` that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: not valid JSON ({error}); {_AGAIN}") from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from None


def _library_versions() -> dict[str, str]:
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
