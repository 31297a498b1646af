"""Atomic files: what has its final name is whole."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from storerec.errors import DataError


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to, and move it to ``path`` when the block ends well.

    The temporary file lies in the same folder, because ``os.replace`` is atomic within one file system only.
    When the block raises, the temporary file is removed and ``path`` stays as it was. Missing folders are
    made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files only their owner can read; the result gets the rights any new file would get.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


_LEFT_SECONDS = 24 * 3600
"""A temporary folder that nobody has written in for so long is what a killed process left."""


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """Give a folder in ``parent`` for large files that are deleted after the block, and with it what was left there.

    Another process may have one beside it. Files that are mapped stay when their names are gone; on NFS those have a
    name that begins with ``.nfs`` while they are in use, and are left alone.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for other in parent.iterdir():
        with suppress(OSError):  # another process may delete it, too
            old = other.is_dir() and time.time() - other.stat().st_mtime > _LEFT_SECONDS
            if old and not any(other.glob("**/.nfs*")):
                shutil.rmtree(other, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as own:
        yield Path(own)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write numpy arrays as safetensors; an array that is mapped is never in memory whole, nor copied."""
    from safetensors.numpy import save_file

    # safetensors writes the memory as it lies, so views and transposed arrays must be made whole first
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    with atomic(path) as temporary:
        save_file(whole, temporary)


def save_tensors(path: Path, tensors: Mapping[str, Any]) -> None:
    """Write torch tensors as safetensors."""
    from safetensors.torch import save_file

    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic(path) as temporary:
        save_file(whole, temporary)


def map_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a safetensors file as read-only views of it: nothing is read before it is used.

    The file may be replaced meanwhile, but not written over. On Windows, which replaces no file that is mapped, arrays
    are copies. The format is a length (8 bytes), a JSON header with each array's type, shape and place, and the bytes
    of all; the library's own reader gives copies.

    Raises
    ------
    DataError: the file is no safetensors file, or cut short.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _LONGEST_HEADER:
                raise ValueError("no header")
            header: dict[str, Any] = json.loads(file.read(length))
        whole = np.memmap(path, np.uint8, "r", offset=8 + length)
        header.pop("__metadata__", None)
        views = {
            name: whole[slice(*about["data_offsets"])].view(_TYPES[about["dtype"]]).reshape(about["shape"])
            for name, about in header.items()
        }
        return {name: np.array(view) for name, view in views.items()} if os.name == "nt" else views
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as safetensors ({error})") from None


_LONGEST_HEADER = 100_000_000
"""Bytes; that of the safetensors library."""

_TYPES: dict[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I32": np.int32,
    "I64": np.int64,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
}
