"""The code table: every item's code tuple, and the items of every tuple."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self, cast

import numpy as np
from numpy.typing import NDArray

from storerec.codes import external
from storerec.codes.collisions import POLICIES, Policy, append_number, group_rows, reassign
from storerec.codes.growth import Buckets
from storerec.codes.report import CodeReport
from storerec.codes.table_checks import check_derived, checked_codes, checked_counts
from storerec.codes.table_config import CodeTableConfig
from storerec.codes.table_files import built_in_files, log_shares
from storerec.errors import DataError

__all__ = ["CodeTable", "CodeTableConfig"]

_MANY = 50
"""Old items per new one from which shares are brought up to date tuple by tuple."""

_DERIVED = ("tuples", "tuple_of", "bucket_starts", "bucket_items", "shares")
"""Arrays that follow from the codes, by the names of the properties that make them when they are first asked for."""


@dataclass(frozen=True, eq=False)
class CodeTable:
    """Code tuples of n items (L codes each) and the way back; immutable.

    Make one with :meth:`build`, :meth:`extend` or :meth:`from_arrays`. Items are rows 0..n-1; tuples are
    numbered 0..t-1 in lexicographic order.

    Attributes
    ----------
    codes: (n, L) int32, under policy ``extra`` with the appended position.
    sizes: (L,) int64, codes per position.
    policy: collision policy, ``bucket``, ``extra`` or ``reassign``.
    counts: (n,) float64, training counts behind the shares.
    smoothing: added to each count.
    """

    codes: NDArray[np.int32]
    sizes: NDArray[np.int64]
    policy: Policy
    counts: NDArray[np.float64]
    smoothing: float

    def __len__(self) -> int:
        """Number of items."""
        return len(self.codes)

    @classmethod
    def build(
        cls,
        codes: np.ndarray,
        sizes: np.ndarray | tuple[int, ...],
        *,
        policy: Policy = "bucket",
        distances: np.ndarray | None = None,
        counts: np.ndarray | None = None,
        smoothing: float = 1.0,
        folder: Path | None = None,
    ) -> Self:
        """Build the table from clusterer codes and settle collisions.

        Parameters
        ----------
        codes
            (n, v) int, n >= 1, each within 0..size-1 of its position.
        sizes
            (v,) codes per position.
        policy
            what to do with items of the same tuple.
        distances
            (n, v, k) squared distances to all centroids; needed by ``reassign`` only.
        counts
            (n,) training counts, >= 0, which are not copied; None means zero for all, so items of a tuple share it
            evenly.
        smoothing
            added to each count, > 0.
        folder
            where the arrays of a large table, of :data:`~storerec.codes.external.LARGE` items or more, are built as
            files, by sorting out of core; they must stay as long as the table is used. The table is the same. Codes
            may be a mapped file of int32, which is not copied then. Under ``reassign`` tables are built in memory.

        Raises
        ------
        DataError: wrong shapes or values, more items than possible tuples under ``reassign``, or a folder that cannot
            be written to.
        """
        if policy not in POLICIES:
            raise DataError(f"unknown collision policy {policy!r}; one of {', '.join(POLICIES)}")
        if not (np.isfinite(smoothing) and smoothing > 0):
            raise DataError(f"smoothing must be a number above 0, got {smoothing}")
        base_sizes = np.asarray(sizes, dtype=np.int64)
        base = checked_codes(codes, base_sizes)
        if len(base) == 0:
            raise DataError("a code table needs at least one item")
        weights = checked_counts(counts, len(base))
        if folder is not None and len(base) >= external.LARGE and policy != "reassign":
            arrays = built_in_files(base, base_sizes, weights, smoothing, folder, numbered=policy == "extra")
            return cls(arrays["codes"], arrays["sizes"], policy, weights, float(smoothing))._with(arrays)
        if policy == "extra":
            base = append_number(base)
            base_sizes = np.append(base_sizes, int(base[:, -1].max()) + 1)
        elif policy == "reassign":
            base = reassign(base, base_sizes, distances)
        return cls(base, base_sizes, policy, weights, float(smoothing))

    def extend(
        self, codes: np.ndarray, distances: np.ndarray | None = None, counts: np.ndarray | None = None
    ) -> CodeTable:
        """A new table with items appended; all existing items keep their codes, whatever the policy.

        Parameters
        ----------
        codes
            (m, v) clusterer codes of the new items (v without the position that ``extra`` appended).
        distances
            (m, v, k) their squared distances; needed by ``reassign`` only.
        counts
            (m,) their training counts; None means zero.

        Returns
        -------
        Table of n + m items. Under ``bucket`` in time that copying takes, not sorting. Under ``extra`` the last
        position's size may grow; under ``bucket`` the shares of items whose tuple gained items fall.

        Raises
        ------
        DataError: as :meth:`build`.
        """
        extra = self.policy == "extra"
        new = checked_codes(codes, self.sizes[:-1] if extra else self.sizes)
        if extra:
            new = append_number(new, self.codes)
        elif self.policy == "reassign":
            new = reassign(new, self.sizes, distances, self.codes)
        return self.joined(new, counts)

    def joined(self, codes: np.ndarray, counts: np.ndarray | None = None) -> CodeTable:
        """A new table with items appended whose codes stand already, as :meth:`extend` gave them out.

        Takes codes (m, L) and counts (m,), None for zero. Raises :class:`DataError` for codes outside the sizes (but
        the number that policy ``extra`` appends), and for a tuple given out twice under ``reassign``.
        """
        sizes = self.sizes
        if self.policy == "extra" and codes.ndim == 2 and len(codes):
            sizes = np.append(sizes[:-1], max(int(sizes[-1]), int(codes[:, -1].max()) + 1))
        new = checked_codes(codes, sizes)
        counts_all = np.concatenate([self.counts, checked_counts(counts, len(new))])
        whole = CodeTable(np.concatenate([self.codes, new]), sizes, self.policy, counts_all, self.smoothing)
        buckets = Buckets(self.tuples, self.tuple_of, self.bucket_starts, self.bucket_items).joined(new)
        if self.policy != "bucket" and len(buckets.tuples) < len(self.tuples) + len(new):
            raise DataError(
                f"codes given out before are given to another item, which policy '{self.policy}' never does"
            )
        cached = whole.__dict__  # where cached properties live
        cached["_grouped"] = buckets.tuples, buckets.tuple_of
        cached["bucket_starts"], cached["bucket_items"] = buckets.starts, buckets.items
        if len(new) * _MANY < len(self):  # else made anew when asked for, which is faster then
            cached["shares"] = whole._shares_after(self.shares)
        return whole

    @cached_property
    def _grouped(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        return group_rows(self.codes)

    @property
    def tuples(self) -> NDArray[np.int32]:
        """Distinct code tuples (t, L), lexicographically sorted."""
        return self._grouped[0]

    @property
    def tuple_of(self) -> NDArray[np.int32]:
        """Number of each item's tuple, (n,)."""
        return self._grouped[1]

    @cached_property
    def bucket_starts(self) -> NDArray[np.int64]:
        """Borders (t + 1,) of the tuples' ranges in :attr:`bucket_items`."""
        ends = np.cumsum(np.bincount(self.tuple_of, minlength=len(self.tuples)))
        return np.concatenate([[0], ends]).astype(np.int64)

    @cached_property
    def bucket_items(self) -> NDArray[np.int32]:
        """Item rows (n,) by tuple, then row: tuple t's are bucket_starts[t]..bucket_starts[t+1]-1."""
        return np.argsort(self.tuple_of, kind="stable").astype(np.int32)

    @cached_property
    def shares(self) -> NDArray[np.float32]:
        """Log of each item's share in its tuple, (n,), <= 0: log((count + s) / (sum of count + s))."""
        return log_shares(self.counts + self.smoothing, self.tuple_of)

    def _shares_after(self, before: NDArray[np.float32]) -> NDArray[np.float32]:
        """:attr:`shares`, where those of all but the last items were ``before`` (n,) without these."""
        shares = np.concatenate([before, np.empty(len(self) - len(before), np.float32)])
        for number in np.unique(self.tuple_of[len(before) :]).tolist():
            items = self.bucket(number)
            weights = self.counts[items] + self.smoothing
            shares[items] = np.log(weights) - np.log(weights.sum())
        return shares

    def bucket(self, tuple_row: int) -> NDArray[np.int32]:
        """Item rows of one tuple, ascending."""
        return self.bucket_items[self.bucket_starts[tuple_row] : self.bucket_starts[tuple_row + 1]]

    def report(self) -> CodeReport:
        """Utilisation and collisions of this table."""
        return CodeReport.from_codes(self.codes, self.sizes, np.diff(self.bucket_starts), self.policy)

    def hamming_neighbours(
        self, row: int, count: int, *, without: NDArray[np.bool_] | None = None
    ) -> NDArray[np.int32]:
        """The ``count`` items that differ from item ``row`` in the fewest code positions.

        Gives at most n - 1 rows, int32, without ``row`` itself and those ``without`` (n,) leaves out; ties by row.
        Raises :class:`DataError` for a row outside the table.
        """
        if not 0 <= row < len(self):
            raise DataError(f"item row {row} is outside the code table of {len(self)} items")
        differing = (self.codes != self.codes[row]).sum(axis=1)
        out = np.zeros(len(self), bool) if without is None else without.copy()
        out[row] = True
        differing[out] = self.codes.shape[1] + 1
        left = len(self) - int(out.sum())
        return np.argsort(differing, kind="stable")[: max(0, min(count, left))].astype(np.int32)

    def arrays(self, *, derived: bool = False) -> dict[str, np.ndarray]:
        """State for saving: codes, sizes, counts, smoothing (1,) and policy (UTF-8); the rest follows.

        With ``derived`` also what follows, so that who maps a file of them computes nothing: tuples, tuple_of,
        bucket_starts, bucket_items and shares.
        """
        state: dict[str, np.ndarray] = {
            "codes": self.codes,
            "sizes": self.sizes,
            "counts": self.counts,
            "smoothing": np.array([self.smoothing]),
            "policy": np.frombuffer(self.policy.encode(), dtype=np.uint8).copy(),
        }
        return state | ({name: getattr(self, name) for name in _DERIVED} if derived else {})

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Exact inverse of :meth:`arrays`; raises :class:`DataError` when an array lacks or is not valid.

        Where all that follows from the codes is there too, arrays are taken as they are, and only their shapes are
        looked at: a table of mapped files is there in a millisecond, whatever its size.
        """
        try:
            codes, sizes, counts, smoothing, policy = (
                arrays[name] for name in ("codes", "sizes", "counts", "smoothing", "policy")
            )
        except KeyError as missing:
            raise DataError(f"code table state lacks the array {missing}") from None
        name = policy.tobytes().decode(errors="replace")
        if name not in POLICIES:
            raise DataError(f"code table state has the unknown collision policy {name!r}")
        if all(one in arrays for one in _DERIVED):
            check_derived(codes, sizes, counts, arrays)
            return cls(codes, sizes, cast(Policy, name), counts, float(smoothing[0]))._with(arrays)
        codes = checked_codes(codes, sizes)
        return cls(codes, sizes, cast(Policy, name), checked_counts(counts, len(codes)), float(smoothing[0]))

    def _with(self, derived: Mapping[str, np.ndarray]) -> Self:
        """Know what follows from the codes; gives this table."""
        cached = self.__dict__  # where cached properties live
        cached["_grouped"] = derived["tuples"], derived["tuple_of"]
        cached |= {name: derived[name] for name in ("bucket_starts", "bucket_items", "shares")}
        return self
