"""The tree of all code tuples, which beam search walks (docs/method.md, section 4)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from storerec.codes import external
from storerec.codes.array_file import writing
from storerec.codes.growth import grown_levels
from storerec.codes.table import CodeTable
from storerec.codes.tree_files import level_arrays
from storerec.errors import DataError

DENSE_LIMIT = 4_000_000
"""Most entries of a level's dense child table (16 MB of int32), or as many as there are items, if those are more: then
it is no larger than what holds the items' leaves. Larger levels are walked by their ranges."""

_CHUNK_NODES = 4096
"""Nodes whose children are laid out at a time."""


@dataclass(frozen=True, eq=False)
class CodeTree:
    """Prefix tree of a table's tuples. Level 0 is the root, level L the leaves: the table's tuples in order.

    Nodes of a level are numbered in lexicographic order of their prefixes, so the children of a node are a
    range of the next level. Every node has an item below it.

    Attributes
    ----------
    sizes: (L,) int64, codes per position; k_l is ``sizes[l]``.
    starts: L arrays, ``starts[l]`` (nodes_l + 1,) int64: node i's children are
        starts[l][i]..starts[l][i+1]-1.
    codes: L arrays, ``codes[l]`` (nodes_{l+1},) int32: the code that leads to each node of level l + 1.
    tuple_of: (n_items,) int32, the leaf of each item.
    """

    sizes: NDArray[np.int64]
    starts: tuple[NDArray[np.int64], ...]
    codes: tuple[NDArray[np.int32], ...]
    tuple_of: NDArray[np.int32]
    dense_limit: int | None = None

    def dense(self, level: int) -> NDArray[np.int32] | None:
        """Child table (nodes_l, k_l) of a level, -1 for none; None when above the limit. Made when first asked for."""
        if level not in self._dense:
            self._dense[level] = self._dense_level(level)
        return self._dense[level]

    @cached_property
    def _dense(self) -> dict[int, NDArray[np.int32] | None]:
        return {}

    @cached_property
    def leaves_below(self) -> tuple[NDArray[np.int64], ...]:
        """L + 1 arrays, (nodes_l,): items below each node."""
        return tuple(self.counts_below(np.ones(len(self.tuple_of), dtype=bool)))

    @cached_property
    def branching(self) -> tuple[NDArray[np.bool_], ...]:
        """L + 1 arrays, (nodes_l,): whether a node leads to several leaves."""
        levels = [np.zeros(self.nodes(self.levels), bool)]
        for starts in reversed(self.starts):
            levels.append((np.diff(starts) > 1) | levels[-1][starts[:-1]])  # of one child, what is below that
        return tuple(levels[::-1])

    @property
    def levels(self) -> int:
        """Number of code positions L."""
        return len(self.codes)

    def nodes(self, level: int) -> int:
        """Number of nodes of a level, 0..L."""
        return 1 if level == 0 else len(self.codes[level - 1])

    @classmethod
    def from_table(cls, table: CodeTable, *, dense_limit: int | None = None, folder: Path | None = None) -> Self:
        """Build the tree of all items of a table; vectorised, seconds for 20 million items.

        Parameters
        ----------
        table
            its tuples are sorted, whether in memory or in files.
        dense_limit
            the largest number of entries of a level's dense child table, else that of :data:`DENSE_LIMIT`; it changes
            speed and memory only, never a result.
        folder
            where the levels of a large tree, of :data:`~storerec.codes.external.LARGE` items or more, are built as
            files; they must stay as long as the tree is used. :class:`DataError` where it cannot be written to.
        """
        if folder is not None and len(table) >= external.LARGE:
            with writing(folder):
                arrays = level_arrays(table.tuples, table.bucket_starts, folder)
            arrays |= {"sizes": table.sizes, "tuple_of": table.tuple_of}
            return cls.from_arrays(arrays, dense_limit=dense_limit)
        tuples = table.tuples
        starts, codes = [], []
        new = np.zeros(len(tuples), dtype=bool)
        new[0] = True
        above = np.zeros(1, dtype=np.int64)  # the first tuple of each node of the level above
        for level in range(tuples.shape[1]):
            # Tuples are sorted, so a prefix is new where its last code, or any before, differs from the row above.
            new[1:] |= tuples[1:, level] != tuples[:-1, level]
            first = np.flatnonzero(new)
            starts.append(np.append(np.searchsorted(first, above), len(first)))
            codes.append(np.ascontiguousarray(tuples[first, level]))
            above = first
        return cls(table.sizes, tuple(starts), tuple(codes), table.tuple_of, dense_limit)

    def extended(self, table: CodeTable) -> CodeTree:
        """The tree of ``table``, an extension of the table that this one was built from.

        Equal to :meth:`from_table`, in time that copying takes. Nodes get other numbers where some come before them.
        """
        starts, codes = grown_levels(self.starts, self.codes, table.codes[len(self.tuple_of) :])
        return CodeTree(table.sizes, starts, codes, table.tuple_of, self.dense_limit)

    def children(self, level: int, nodes: np.ndarray) -> NDArray[np.int32]:
        """Child under every code.

        Parameters
        ----------
        level
            0..L-1, the level of ``nodes``.
        nodes
            (...) int node numbers; -1 (no node) has no children.

        Returns
        -------
        (..., k_l) int32 node numbers of level l + 1, -1 where the code leads to no item. The same whether the
        level has a dense table or not.
        """
        nodes = np.asarray(nodes)
        table = self.dense(level)
        if table is None:
            return self._children_by_range(level, nodes.ravel()).reshape(*nodes.shape, int(self.sizes[level]))
        out = table[nodes]
        out[nodes < 0] = -1
        return out

    def node_of(self, level: int) -> NDArray[np.int32]:
        """Node of a level (0..L) under which each item lies, (n_items,) int32."""
        nodes = np.arange(self.nodes(level), dtype=np.int32)
        for starts in self.starts[level:]:
            nodes = np.repeat(nodes, np.diff(starts))
        return nodes[self.tuple_of]

    def nodes_over(self, level: int, items: np.ndarray) -> NDArray[np.int64]:
        """:meth:`node_of` for some items only: takes rows (m,) and no time for the others."""
        nodes = self.tuple_of[items].astype(np.int64)
        for starts in reversed(self.starts[level:]):
            nodes = np.searchsorted(starts, nodes, side="right") - 1
        return nodes

    def path(self, item_row: int) -> NDArray[np.int32]:
        """Nodes from the root to an item's leaf, (L + 1,) int32; DataError for an unknown row."""
        if not 0 <= item_row < len(self.tuple_of):
            raise DataError(f"item row {item_row} is outside the code tree of {len(self.tuple_of)} items")
        nodes = [int(self.tuple_of[item_row])]
        for starts in reversed(self.starts):
            nodes.append(int(np.searchsorted(starts, nodes[-1], side="right")) - 1)
        return np.array(nodes[::-1], dtype=np.int32)

    def counts_below(self, allowed: np.ndarray) -> list[NDArray[np.int64]]:
        """Number of allowed items below each node.

        Takes allowed (n_items,) bool; gives L + 1 arrays, (nodes_l,) int64. A node may be walked into when
        its number is above 0. Raises :class:`DataError` for another shape.
        """
        if allowed.shape != self.tuple_of.shape or allowed.dtype != np.bool_:
            raise DataError(f"allowed must be {self.tuple_of.shape} booleans, got {allowed.shape} {allowed.dtype}")
        for mask, counted in tuple(self._counted):  # servers ask for the same two again and again: all items, new items
            if np.array_equal(mask, allowed):
                return counted
        counts = [np.bincount(self.tuple_of[allowed], minlength=self.nodes(self.levels)).astype(np.int64)]
        for starts in reversed(self.starts):
            counts.append(np.add.reduceat(counts[-1], starts[:-1]))  # no node is childless, so every range counts
        self._counted.append((allowed.copy(), counts[::-1]))
        return counts[::-1]

    @cached_property
    def _counted(self) -> deque[tuple[NDArray[np.bool_], list[NDArray[np.int64]]]]:
        return deque(maxlen=2)

    def arrays(self, *, derived: bool = False) -> dict[str, np.ndarray]:
        """State for saving: ``sizes``, ``tuple_of``, ``starts.l``, ``codes.l``; the rest follows.

        With ``derived`` also what follows, so that who maps a file of them computes nothing: ``below.l`` int32 and
        ``branching.l`` of levels 0..L, and ``dense.l`` of those of 0..L-1 that have a dense child table.
        """
        out: dict[str, np.ndarray] = {"sizes": self.sizes, "tuple_of": self.tuple_of}
        for level in range(self.levels):
            out[f"starts.{level}"], out[f"codes.{level}"] = self.starts[level], self.codes[level]
            if derived and (dense := self.dense(level)) is not None:
                out[f"dense.{level}"] = dense
        for level in range(self.levels + 1 if derived else 0):
            out[f"below.{level}"] = self.leaves_below[level].astype(np.int32, copy=False)
            out[f"branching.{level}"] = self.branching[level]
        return out

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], *, dense_limit: int | None = None) -> Self:
        """Exact inverse of :meth:`arrays`; raises :class:`DataError` when an array lacks.

        What follows from the others is taken as it is where it is there; dense tables only without ``dense_limit``.
        """
        try:
            levels = range(len(arrays["sizes"]))
            starts = tuple(arrays[f"starts.{level}"] for level in levels)
            codes = tuple(arrays[f"codes.{level}"] for level in levels)
            tree = cls(arrays["sizes"], starts, codes, arrays["tuple_of"], dense_limit)
        except KeyError as missing:
            raise DataError(f"code tree state lacks the array {missing}") from None
        cached, nodes = tree.__dict__, range(len(levels) + 1)  # where cached properties live
        for name, kept in (("leaves_below", "below"), ("branching", "branching")):
            if all(f"{kept}.{level}" in arrays for level in nodes):
                cached[name] = tuple(arrays[f"{kept}.{level}"] for level in nodes)
        if dense_limit is None and any(f"dense.{level}" in arrays for level in levels):
            cached["_dense"] = {level: arrays.get(f"dense.{level}") for level in levels}
        return tree

    def _dense_level(self, level: int) -> NDArray[np.int32] | None:
        nodes, size = self.nodes(level), int(self.sizes[level])
        limit = max(DENSE_LIMIT, len(self.tuple_of)) if self.dense_limit is None else self.dense_limit
        if nodes * size > limit:
            return None
        table = np.empty((nodes, size), np.int32)
        for start in range(0, nodes, _CHUNK_NODES):
            part = np.arange(start, min(start + _CHUNK_NODES, nodes))
            table[part] = self._children_by_range(level, part)
        return table

    def _children_by_range(self, level: int, nodes: np.ndarray) -> NDArray[np.int32]:
        starts = self.starts[level]
        first = starts[nodes]
        spans = np.where(nodes < 0, 0, starts[np.maximum(nodes, 0) + 1] - first)
        rows = np.repeat(np.arange(len(nodes)), spans)
        child = np.repeat(first - (np.cumsum(spans) - spans), spans) + np.arange(len(rows))
        out = np.full((len(nodes), int(self.sizes[level])), -1, dtype=np.int32)
        out[rows, self.codes[level][child]] = child
        return out
