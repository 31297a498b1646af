"""Sorting code columns out of core: rows go to files by ranges of their codes, and each file is sorted in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storerec.codes.collisions import group_rows

LARGE = 5_000_000
"""Items from which a table that is given a folder is built in files there: in memory, the table and the tree of so
many, with what sorting takes, come to about a gigabyte (benchmarks/tree_files.py)."""

RUN_ROWS = 4_000_000
"""Rows sorted in memory at a time; a few hundred megabytes."""

_MOST_RUNS = 256
"""Files open at a time at most; of more items than this many runs hold, runs are longer."""

_SAMPLE_PER_RUN = 1024
"""Rows looked at for each run to find ranges of nearly equal size."""

_CHUNK_ROWS = 1 << 20
"""Rows read at a time."""

_KEY_BITS = 63


@dataclass(frozen=True, eq=False)
class Run:
    """A range of a table's tuples, in order: all items of all of them.

    Attributes
    ----------
    tuples: (t, L) int32, distinct, sorted.
    rows: (m,) int32, the items by tuple, then row.
    tuple_of: (m,) int32, which of ``tuples`` each of ``rows`` has.
    """

    tuples: NDArray[np.int32]
    rows: NDArray[np.int32]
    tuple_of: NDArray[np.int32]


def sorted_runs(codes: np.ndarray, sizes: np.ndarray, folder: Path, *, run_rows: int = RUN_ROWS) -> Iterator[Run]:
    """Items of ``codes`` (n, L), which may be a mapped file, in the order of their tuples, a run at a time.

    All runs together are what :func:`~storerec.codes.collisions.group_rows` gives of all rows. Rows with one tuple
    are always in one run, so that memory is that of ``run_rows`` rows, or of the most items of one tuple. On disk it
    takes 4 (L + 1) bytes an item below ``folder``, which are gone at the end.

    Parameters
    ----------
    sizes: (L,) codes per position; every code is within them.
    folder: where to write; it is made if it lacks.
    run_rows: rows sorted in memory at a time, about.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="runs-") as name:
        borders = _borders(codes, sizes, max(run_rows, -(-len(codes) // _MOST_RUNS)))
        files = [Path(name) / f"{number}.bin" for number in range(len(borders) + 1)]
        _scatter(codes, sizes, borders, files)
        for file in files:
            whole = np.fromfile(file, np.int32).reshape(-1, codes.shape[1] + 1)
            file.unlink()
            if len(whole):
                yield _sorted(whole)


def _sorted(whole: NDArray[np.int32]) -> Run:
    """A run from its items (m, 1 + L), each a row and its codes, in row order."""
    tuples, tuple_of = group_rows(whole[:, 1:])
    order = np.argsort(tuple_of, kind="stable")
    return Run(tuples, whole[order, 0], tuple_of[order])


def _scatter(codes: np.ndarray, sizes: np.ndarray, borders: np.ndarray, files: list[Path]) -> None:
    """Write each item, its row and its codes as int32, to the file of its range, in row order."""
    with ExitStack() as stack:
        streams = [stack.enter_context(file.open("wb")) for file in files]
        for start in range(0, len(codes), _CHUNK_ROWS):
            part = codes[start : start + _CHUNK_ROWS]
            whole = np.empty((len(part), codes.shape[1] + 1), np.int32)
            whole[:, 0] = np.arange(start, start + len(part))
            whole[:, 1:] = part
            which = np.searchsorted(borders, _prefix_keys(part, sizes))
            whole = whole[np.argsort(which, kind="stable")]
            ends = np.cumsum(np.bincount(which, minlength=len(files)))
            for stream, first, end in zip(streams, np.append(0, ends), ends, strict=False):
                whole[first:end].tofile(stream)


def _borders(codes: np.ndarray, sizes: np.ndarray, run_rows: int) -> NDArray[np.int64]:
    """Highest keys of all ranges but the last, rising, from a sample of the rows that is spread evenly over them."""
    runs = -(-len(codes) // run_rows)
    rows = np.unique(np.linspace(0, len(codes) - 1, min(len(codes), runs * _SAMPLE_PER_RUN)).astype(np.int64))
    keys = np.sort(_prefix_keys(codes[rows], sizes))
    return np.unique(keys[np.arange(1, runs) * len(keys) // runs])


def _prefix_keys(codes: np.ndarray, sizes: np.ndarray) -> NDArray[np.int64]:
    """A number (m,) per row that orders as its first codes do, as many as 63 bits hold."""
    keys, left = np.zeros(len(codes), np.int64), _KEY_BITS
    for column, size in zip(codes.T, sizes.tolist(), strict=True):
        left -= (bits := int(size - 1).bit_length())
        if left < 0:
            break
        keys = keys << bits | column
    return keys
