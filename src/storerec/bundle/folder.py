"""Writing a bundle so that nobody ever sees half of one, and reading it with every file checked first."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from storerec.bundle.manifest import FORMAT_VERSION, MANIFEST, Manifest, is_plain, read_json
from storerec.errors import BundleError, DataError
from storerec.storage import map_arrays, save_arrays


@dataclass(frozen=True, eq=False)
class Bundle:
    """The content of a bundle folder.

    Attributes
    ----------
    documents
        JSON values by name: ``NAME.json`` without the ending.
    tensors
        Arrays by file and name: those of ``NAME.safetensors``.
    manifest
        What the folder says of itself.
    """

    documents: Mapping[str, Any]
    tensors: Mapping[str, Mapping[str, np.ndarray]]
    manifest: Manifest


def write_bundle(
    folder: Path | str,
    *,
    tensors: Mapping[str, Mapping[str, np.ndarray]],
    documents: Mapping[str, Any],
    format_version: int = FORMAT_VERSION,
) -> None:
    """Write a bundle folder whole, or leave what was there.

    The files are written into a new folder beside it, which then takes the name in one step; a bundle that
    was there before is removed after that.

    Parameters
    ----------
    folder
        Where; missing parents are made.
    tensors
        For each file ``NAME.safetensors`` its arrays by name.
    documents
        For each file ``NAME.json`` its value; numbers must be finite.
    format_version
        Written into the manifest.

    Raises
    ------
    BundleError
        The folder holds something else than a bundle, or cannot be written; or a name is not plain.
    """
    target = Path(folder).resolve()
    names = [f"{name}.safetensors" for name in tensors] + [f"{name}.json" for name in documents]
    for name in names:
        if not is_plain(name):
            raise BundleError(f"a bundle cannot hold a file named '{name}'")
    _check_replaceable(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.new-"))
        try:
            _fill(fresh, tensors, documents)
            manifest = Manifest.describe(fresh, names, format_version=format_version)
            _write_json(fresh / MANIFEST, manifest.model_dump(mode="json"))
            fresh.chmod(0o777 & ~_umask())  # mkdtemp makes private folders; a bundle is meant to be shared
            _swap(fresh, target)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise BundleError(f"{target}: cannot be written ({error.strerror or error})") from None


def read_bundle(folder: Path | str) -> Bundle:
    """Check a bundle's manifest and every file's presence, size and hash; then read it.

    Arrays are views of the files, which are mapped into memory: servers of one bundle share them, and what is not used
    is not read, once its hash was checked. Files that the manifest does not name are not looked at. Nothing but JSON
    and safetensors is ever read, so no file can run code.

    Raises
    ------
    BundleError
        The folder, its manifest or a file is missing, truncated, altered, unreadable or of a newer format;
        the text names the file.
    """
    folder = Path(folder)
    manifest = Manifest.read(folder)
    manifest.check(folder)
    documents, tensors = {}, {}
    for name in manifest.files:
        path = folder / name
        if path.suffix == ".json":
            documents[path.stem] = read_json(path)
        else:
            tensors[path.stem] = _read_tensors(path)
    return Bundle(documents, tensors, manifest)


def _fill(folder: Path, tensors: Mapping[str, Mapping[str, np.ndarray]], documents: Mapping[str, Any]) -> None:
    for name, arrays in tensors.items():
        save_arrays(folder / f"{name}.safetensors", arrays)
    for name, value in documents.items():
        _write_json(folder / f"{name}.json", value)


def _write_json(path: Path, value: Any) -> None:
    # NaN and infinity are no JSON; better to fail here than to write a file that only Python can read.
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _read_tensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return map_arrays(path)
    except DataError as error:
        raise BundleError(str(error)) from None


def _check_replaceable(target: Path) -> None:
    """Refuse to replace what is no bundle: the old folder is deleted in the end."""
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise BundleError(f"{target}: is a file; give a folder")
    if not (target / MANIFEST).is_file() and any(target.iterdir()):
        raise BundleError(f"{target}: holds other files and is no bundle; give a new or empty folder")


def _swap(fresh: Path, target: Path) -> None:
    """Give ``fresh`` the name ``target``; what had it before is moved away first and deleted last."""
    if not target.exists():
        fresh.rename(target)
        return
    old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.old-"))
    target.replace(old)  # onto the empty folder just made, whose name nobody else uses
    try:
        fresh.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
