"""An array that grows in a file."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import DTypeLike


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
