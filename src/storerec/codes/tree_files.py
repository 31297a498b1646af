"""Levels of a code tree from sorted tuples, a part at a time, into files."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storerec.codes.array_file import ArrayFile

_CHUNK_TUPLES = 1 << 20
"""Tuples read at a time."""


class _Level:
    """The nodes of one level, 0..L, in files; each is written when the first tuple behind its own is seen.

    Attributes
    ----------
    count: nodes seen so far.
    """

    def __init__(self, level: int, folder: Path, stack: ExitStack) -> None:
        def column(name: str, dtype: type[np.generic]) -> ArrayFile:
            return stack.enter_context(ArrayFile(folder / f"{name}.{level}.bin", dtype))

        self.codes, self.starts = column("codes", np.int32), column("starts", np.int64)
        self.below, self.branching = column("below", np.int32), column("branching", np.bool_)
        self.count = 0
        self._open: NDArray[np.int64] = np.empty((0, 2), np.int64)  # of the last node: its first tuple and first item

    def see(self, tuples: NDArray[np.int64], items: NDArray[np.int64]) -> None:
        """Take first tuples and first items (m,) of the next nodes."""
        self.count += len(tuples)
        self._write(np.concatenate([self._open, np.stack([tuples, items], axis=1)]))

    def end(self, tuples: int, items: int) -> None:
        """Close the last node, before the numbers of all tuples and items."""
        self._write(np.concatenate([self._open, [[tuples, items]]]))

    def _write(self, firsts: NDArray[np.int64]) -> None:
        spans = np.diff(firsts, axis=0)
        self.branching.append(spans[:, 0] > 1)
        self.below.append(spans[:, 1])
        self._open = firsts[-1:]


def level_arrays(
    tuples: np.ndarray, bucket_starts: np.ndarray, folder: Path, *, chunk: int = _CHUNK_TUPLES
) -> dict[str, np.ndarray]:
    """Arrays of the tree over sorted distinct ``tuples`` (t, L), named as in :meth:`CodeTree.arrays`; mapped files.

    Parameters
    ----------
    bucket_starts: (t + 1,) first item of each tuple, in the tuples' order.
    folder: where the files go; they must stay as long as the arrays are used.
    chunk: tuples in memory at a time.
    """
    depth = tuples.shape[1]
    with ExitStack() as stack:
        levels = [_Level(level, folder, stack) for level in range(depth + 1)]
        before = np.full((1, depth), -1, np.int32)  # no code is -1, so that the first tuple is new at every level
        for start in range(0, len(tuples), chunk):
            part = np.asarray(tuples[start : start + chunk])
            _see(levels, part, np.concatenate([before, part[:-1]]), start, bucket_starts)
            before = part[-1:]
        for level, after in zip(levels, [*levels[1:], None], strict=True):
            level.end(len(tuples), int(bucket_starts[-1]))
            if after is not None:
                level.starts.append(np.array([after.count]))
    arrays: dict[str, np.ndarray] = {}
    for number, level in enumerate(levels):
        arrays[f"below.{number}"], arrays[f"branching.{number}"] = level.below.mapped(), level.branching.mapped()
        if number < depth:
            arrays[f"starts.{number}"] = level.starts.mapped()
            arrays[f"codes.{number}"] = levels[number + 1].codes.mapped()
    return arrays


def _see(levels: list[_Level], part: np.ndarray, before: np.ndarray, start: int, bucket_starts: np.ndarray) -> None:
    """Add the nodes that tuples (m, L) begin, given the tuples before each, (m, L)."""
    new = np.zeros(len(part), bool)
    new[0] = start == 0  # the root
    for number, level in enumerate(levels):
        above = new.copy()
        if number:
            new |= part[:, number - 1] != before[:, number - 1]
            level.codes.append(part[new, number - 1])
            # the first child of each node that begins here
            levels[number - 1].starts.append((level.count + np.cumsum(new) - 1)[above])
        rows = start + np.flatnonzero(new)
        level.see(rows, np.asarray(bucket_starts[rows]))
