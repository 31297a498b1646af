"""Arrays in plain binary files: of a known length, or growing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import DTypeLike

from storerec.errors import DataError


class ArrayFile:
    """Rows appended to a plain binary file; a context manager that closes it, and :meth:`mapped` afterwards.

    Parameters
    ----------
    path: the file, which is written anew.
    dtype: of the values.
    columns: values of a row; none for an array of one dimension.
    """

    def __init__(self, path: Path, dtype: DTypeLike, *columns: int) -> None:
        self._path, self._dtype, self._columns = path, np.dtype(dtype), columns
        self.rows = 0

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self._path.open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def append(self, rows: np.ndarray) -> None:
        """Write rows (m, columns) behind those that are there."""
        np.ascontiguousarray(rows, self._dtype).tofile(self._stream)
        self.rows += len(rows)

    def mapped(self) -> np.ndarray:
        """The whole array, mapped read-only."""
        return mapped(self._path, self._dtype, (self.rows, *self._columns))


def mapped(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> np.ndarray:
    """A plain binary file as an array, mapped read-only; the system maps no file of length 0."""
    return np.memmap(path, dtype, "r", shape=shape) if np.prod(shape) else np.empty(shape, dtype)


def new_mapped(path: Path, dtype: DTypeLike, *shape: int) -> np.memmap:
    """An array of zeros in a new file, mapped to be written to; OSError where the disk has no room for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):  # a full disk would end the program by a signal, where a page has no room
            os.posix_fallocate(file.fileno(), 0, int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return np.memmap(path, dtype, "r+", shape=shape)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Tell in one line, as a :class:`DataError`, what keeps the block from writing into ``folder``."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written to ({error.strerror or error}); give a folder with room"
        ) from None
