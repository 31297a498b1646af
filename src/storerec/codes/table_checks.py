"""What a code table refuses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from storerec.errors import DataError

_CHUNK_ROWS = 1 << 20
"""Rows looked at a time."""


def checked_codes(codes: np.ndarray, sizes: np.ndarray) -> NDArray[np.int32]:
    """Codes (n, L) as int32; :class:`DataError` for another shape, and for the first row outside ``sizes`` (L,)."""
    if codes.ndim != 2 or codes.shape[1] == 0 or not np.issubdtype(codes.dtype, np.integer):
        raise DataError(f"codes must be integers (items, positions), got {codes.shape} {codes.dtype}")
    if sizes.shape != (codes.shape[1],):
        raise DataError(f"codes have {codes.shape[1]} positions, but sizes has shape {sizes.shape}")
    for start in range(0, len(codes), _CHUNK_ROWS):
        part = codes[start : start + _CHUNK_ROWS]
        bad = ((part < 0) | (part >= sizes)).any(axis=1)
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(f"item row {start + row}: codes {part[row].tolist()} outside the sizes {sizes.tolist()}")
    return np.ascontiguousarray(codes, dtype=np.int32)


def checked_counts(counts: np.ndarray | None, n: int) -> NDArray[np.float64]:
    """Training counts (n,) as float64, zeros for None; :class:`DataError` for another shape, or for bad ones."""
    if counts is None:
        return np.zeros(n)
    if counts.shape != (n,):
        raise DataError(f"counts have shape {counts.shape}, expected ({n},)")
    if not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise DataError("training counts must be finite and not negative")
    return counts.astype(np.float64, copy=False)


def check_derived(codes: np.ndarray, sizes: np.ndarray, counts: np.ndarray, derived: Mapping[str, np.ndarray]) -> None:
    """Raise :class:`DataError` unless shapes fit together; values are those of who wrote them, and are not read."""
    n, levels, t = len(codes), len(sizes), len(derived["tuples"])
    shapes = {"tuples": (t, levels), "tuple_of": (n,), "bucket_starts": (t + 1,), "bucket_items": (n,), "shares": (n,)}
    wrong = [name for name, shape in shapes.items() if derived[name].shape != shape]
    if codes.shape != (n, levels) or counts.shape != (n,) or int(derived["bucket_starts"][-1]) != n:
        wrong.append("codes")
    if wrong:
        raise DataError(f"code table state: {', '.join(wrong)} of a shape that does not fit the rest")
