"""A code table of a large catalogue, built in files: what :class:`~storerec.codes.CodeTable` builds in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storerec.codes.array_file import ArrayFile, mapped, new_mapped, writing
from storerec.codes.external import RUN_ROWS, Run, sorted_runs


def built_in_files(
    codes: NDArray[np.int32],
    sizes: np.ndarray,
    counts: NDArray[np.float64],
    smoothing: float,
    folder: Path,
    *,
    numbered: bool,
) -> dict[str, np.ndarray]:
    """All arrays of a table of ``codes`` (n, L), by name; under policy ``extra``, which has items ``numbered``, or not.

    The others are as :func:`bucket_arrays` takes them. Raises :class:`DataError` where ``folder`` cannot be written to.
    """
    with writing(folder):
        if numbered:
            return numbered_arrays(codes, sizes, folder)
        return {"codes": codes, "sizes": sizes, **bucket_arrays(codes, sizes, counts, smoothing, folder)}


def bucket_arrays(
    codes: NDArray[np.int32],
    sizes: np.ndarray,
    counts: NDArray[np.float64],
    smoothing: float,
    folder: Path,
    *,
    run_rows: int = RUN_ROWS,
) -> dict[str, np.ndarray]:
    """Policy ``bucket``: what follows from ``codes`` (n, L), by name as in :meth:`CodeTable.arrays`, mapped files.

    Parameters
    ----------
    codes, sizes, counts, smoothing: as the table has them.
    folder: where the files go; they must stay as long as the arrays are used.
    run_rows: rows sorted in memory at a time.
    """
    n = len(codes)
    with (
        ArrayFile(folder / "tuples.bin", np.int32, codes.shape[1]) as tuples,
        ArrayFile(folder / "bucket_starts.bin", np.int64) as starts,
        ArrayFile(folder / "bucket_items.bin", np.int32) as items,
    ):
        tuple_of, shares = (
            new_mapped(folder / "tuple_of.bin", np.int32, n),
            new_mapped(folder / "shares.bin", np.float32, n),
        )
        starts.append(np.zeros(1))
        for run in sorted_runs(codes, sizes, folder, run_rows=run_rows):
            tuple_of[run.rows] = tuples.rows + run.tuple_of
            shares[run.rows] = log_shares(counts[run.rows] + smoothing, run.tuple_of)
            starts.append(items.rows + np.cumsum(np.bincount(run.tuple_of)))
            tuples.append(run.tuples)
            items.append(run.rows)
    return {
        "tuples": tuples.mapped(),
        "tuple_of": _read(tuple_of, folder / "tuple_of.bin"),
        "bucket_starts": starts.mapped(),
        "bucket_items": items.mapped(),
        "shares": _read(shares, folder / "shares.bin"),
    }


def numbered_arrays(
    codes: NDArray[np.int32], sizes: np.ndarray, folder: Path, *, run_rows: int = RUN_ROWS
) -> dict[str, np.ndarray]:
    """Policy ``extra``: as :func:`bucket_arrays`, and ``codes`` (n, L + 1) and ``sizes`` with the appended position.

    Each item has a tuple of its own then, and these stand in the order of the base tuples and the items' rows.
    """
    n, levels = len(codes), codes.shape[1] + 1
    with (
        ArrayFile(folder / "tuples.bin", np.int32, levels) as tuples,
        ArrayFile(folder / "bucket_items.bin", np.int32) as items,
    ):
        whole, tuple_of = (
            new_mapped(folder / "codes.bin", np.int32, n, levels),
            new_mapped(folder / "tuple_of.bin", np.int32, n),
        )
        most = 0
        for run in sorted_runs(codes, sizes, folder, run_rows=run_rows):
            numbered = np.concatenate([run.tuples[run.tuple_of], _numbers(run)[:, None]], axis=1)
            most = max(most, int(numbered[:, -1].max()))
            whole[run.rows] = numbered
            tuple_of[run.rows] = np.arange(items.rows, items.rows + len(run.rows))
            tuples.append(numbered)
            items.append(run.rows)
    return {
        "codes": _read(whole, folder / "codes.bin"),
        "sizes": np.append(sizes, most + 1),
        "tuples": tuples.mapped(),
        "tuple_of": _read(tuple_of, folder / "tuple_of.bin"),
        "bucket_starts": np.arange(n + 1),
        "bucket_items": items.mapped(),
        "shares": np.zeros(n, np.float32),  # of one item alone: the log of 1
    }


def log_shares(weights: NDArray[np.float64], tuple_of: np.ndarray) -> NDArray[np.float32]:
    """Log of each item's share in its tuple, (m,), from weights (m,) > 0 and tuples (m,) from 0 on."""
    totals = np.bincount(tuple_of, weights=weights)
    return (np.log(weights) - np.log(totals[tuple_of])).astype(np.float32)


def _numbers(run: Run) -> NDArray[np.int32]:
    """Running number 0, 1, ... of each item within its tuple, (m,)."""
    counts = np.bincount(run.tuple_of)
    return (np.arange(len(run.rows)) - np.repeat(np.cumsum(counts) - counts, counts)).astype(np.int32)


def _read(written: np.memmap, path: Path) -> np.ndarray:
    written.flush()
    return mapped(path, written.dtype, written.shape)
