"""Dense tokens of a catalogue in files, one for each chunk of items, so that many processes may make them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from storerec.config import Config
from storerec.errors import TrainingError
from storerec.storage import map_arrays, save_arrays, write_json

_NAME = "dense_tokens"


class _About(Config):
    """What a finished set of files says of itself."""

    identity: str
    """Digest of all that decides the vectors, which names their folder."""

    items: int
    """Items of the catalogue."""

    chunk: int
    """Items of a file; the last one may hold fewer."""

    positions: int
    """Dense tokens of an item."""

    width: int
    """Numbers of a dense token."""


class DenseFiles:
    """Dense tokens (items, v, D) float32 as files of ``chunk`` items each, mapped where they are read.

    The files lie in a folder named by ``identity``: what another configuration left, or a process of it that still
    runs, is never taken for these. A file has its name only when it is whole, so that a killed encoding goes on with
    the chunks that are missing. Make one with :meth:`begin`; :meth:`open` finds what :meth:`finish` has ended.

    Attributes
    ----------
    shape: (items, v, D).
    chunk: items of a file.
    """

    def __init__(self, folder: Path, about: _About) -> None:
        self._folder, self._about = folder, about
        self.shape, self.chunk = (about.items, about.positions, about.width), about.chunk

    @classmethod
    def begin(cls, folder: Path, identity: str, shape: tuple[int, int, int], chunk: int) -> Self:
        """The files below ``folder`` of vectors with that ``identity``, made or not."""
        items, positions, width = shape
        about = _About(identity=identity[:32], items=items, chunk=chunk, positions=positions, width=width)
        return cls(folder, about)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Those that are finished; TrainingError where there are none, or one of their files is gone."""
        mark = folder / f"{_NAME}.json"
        if not mark.is_file():
            raise TrainingError(f"{folder / _NAME} is missing; run `storerec tokenize` (or `storerec fit`) first")
        found = cls(folder, _About.read(mark))
        if gone := found.missing():
            raise TrainingError(f"{found.file(gone[0])} is missing; delete {mark} and run `storerec tokenize` again")
        return found

    @staticmethod
    def finished(folder: Path) -> bool:
        """Whether :meth:`open` will find some."""
        return (folder / f"{_NAME}.json").is_file()

    def __len__(self) -> int:
        """Number of items."""
        return self.shape[0]

    @property
    def chunks(self) -> int:
        """Number of files."""
        return -(-self.shape[0] // self.chunk)

    def part(self, number: int) -> slice:
        """Items of a chunk."""
        return slice(number * self.chunk, min((number + 1) * self.chunk, len(self)))

    def file(self, number: int) -> Path:
        """Where a chunk lies; a thousand of them share a folder."""
        group = f"{number // 1000:05d}"
        return self._folder / _NAME / self._about.identity / group / f"{number:08d}.safetensors"

    def missing(self) -> list[int]:
        """Chunks that are not made yet; folders are listed, not files asked for one by one."""
        there = {int(path.stem) for path in (self._folder / _NAME / self._about.identity).glob("*/*.safetensors")}
        return [number for number in range(self.chunks) if number not in there]

    def write(self, number: int, vectors: np.ndarray) -> None:
        """Write a chunk's vectors (items of it, v, D), whole or not at all."""
        save_arrays(self.file(number), {_NAME: np.asarray(vectors, np.float32)})

    def read(self, number: int) -> NDArray[np.float32]:
        """A chunk's vectors (items of it, v, D), mapped and read-only."""
        return map_arrays(self.file(number))[_NAME]

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """All chunks in order."""
        return (self.read(number) for number in range(self.chunks))

    def take(self, rows: np.ndarray, position: int) -> NDArray[np.float32]:
        """One position's vectors of some items: rows (m,), rising, to (m, D)."""
        out = np.empty((len(rows), self.shape[2]), np.float32)
        bounds = np.searchsorted(rows, np.arange(self.chunks + 1) * self.chunk)
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            place = slice(bounds[number], bounds[number + 1])
            out[place] = self.read(number)[rows[place] - number * self.chunk, position]
        return out

    def whole(self) -> NDArray[np.float32]:
        """All vectors (items, v, D) in memory."""
        out = np.empty(self.shape, np.float32)
        for number, vectors in enumerate(self):
            out[self.part(number)] = vectors
        return out

    def finish(self) -> None:
        """Say that all chunks are there, and delete what other identities left."""
        write_json(self._folder / f"{_NAME}.json", self._about.model_dump())
        for half in (self._folder / _NAME / self._about.identity).glob("*/.*.tmp"):  # of processes that were killed
            half.unlink(missing_ok=True)
        for other in (self._folder / _NAME).iterdir():
            if other.name != self._about.identity:
                shutil.rmtree(other, ignore_errors=True)

    def drop(self) -> None:
        """Delete the files."""
        shutil.rmtree(self._folder / _NAME, ignore_errors=True)
        (self._folder / f"{_NAME}.json").unlink(missing_ok=True)


class WholeVectors:
    """Vectors that lie in one array (items, v, D), seen as :class:`DenseFiles` are."""

    chunk = 1024

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self._vectors = vectors
        self.shape = vectors.shape

    def __len__(self) -> int:
        """Number of items."""
        return len(self._vectors)

    @property
    def chunks(self) -> int:
        """Number of parts."""
        return -(-len(self) // self.chunk)

    def part(self, number: int) -> slice:
        """Items of a part."""
        return slice(number * self.chunk, min((number + 1) * self.chunk, len(self)))

    def read(self, number: int) -> NDArray[np.float32]:
        """A part's vectors (items of it, v, D)."""
        return self._vectors[self.part(number)]

    def take(self, rows: np.ndarray, position: int) -> NDArray[np.float32]:
        """One position's vectors of some items: rows (m,) to (m, D)."""
        return np.asarray(self._vectors[rows, position])

    def whole(self) -> NDArray[np.float32]:
        """All vectors (items, v, D)."""
        return self._vectors
