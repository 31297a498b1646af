"""A catalogue's ids in a form that the workers of a node share: none of them holds its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from storerec.data.catalogue import Catalogue
from storerec.data.id_index import IdIndex, find

_PROBES = ("", "a", "item-1234567890", "\u00e9\u4e2d\U0001f600" * 9)


@dataclass(frozen=True)
class SharedIds:
    """Row numbers of ids; what it holds lies in the cluster's object store and is mapped, not copied.

    Attributes
    ----------
    ids
        (n,) large_string.
    hashes, order
        Hashes of the ids, (n,) uint64, rising, and the row of each, (n,) int32.
    probes
        Hashes of known texts: where a worker's differ, it hashes in another way and must not look these up.
    """

    ids: pa.LargeStringArray
    hashes: np.ndarray
    order: np.ndarray
    probes: np.ndarray

    @classmethod
    def of(cls, catalogue: Catalogue) -> SharedIds:
        """Take a catalogue's ids."""
        hashes, rows = IdIndex(catalogue.ids).hashed
        return cls(_arrow(catalogue.ids), hashes, rows.astype(np.int32), _probes())

    def rows(self, ids: pl.Series) -> np.ndarray:
        """Look ids up: (m,) int64 row numbers, -1 where an id is unknown."""
        if not len(ids):
            return np.empty(0, np.int64)
        if not np.array_equal(self.probes, _probes()):
            return IdIndex(pl.Series(self.ids)).rows(ids)
        wanted = _arrow(ids)

        def equal(row: np.ndarray, at: np.ndarray) -> pl.Series:
            return pl.Series(pc.equal(self.ids.take(pa.array(row)), wanted.take(pa.array(at))))

        return find(self.hashes, self.order, ids.hash().to_numpy(), equal)


def _arrow(ids: pl.Series) -> pa.LargeStringArray:
    made = ids.to_arrow(compat_level=pl.CompatLevel.oldest())
    return made.combine_chunks() if isinstance(made, pa.ChunkedArray) else made


def _probes() -> np.ndarray:
    return pl.Series(_PROBES).hash().to_numpy()
