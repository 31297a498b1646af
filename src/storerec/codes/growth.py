"""Adding items to what is sorted already: copies and small searches where building anew would sort all items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storerec.codes.collisions import group_rows

Tuples = NDArray[np.int32]


@dataclass(frozen=True)
class Buckets:
    """Tuples of a table and the items of each, as :class:`storerec.codes.table.CodeTable` has them.

    Attributes
    ----------
    tuples: (t, L) distinct code tuples, sorted.
    tuple_of: (n,) the tuple of each item.
    starts: (t + 1,) borders of the tuples' ranges in ``items``.
    items: (n,) item rows by tuple, then row.
    """

    tuples: Tuples
    tuple_of: NDArray[np.int32]
    starts: NDArray[np.int64]
    items: NDArray[np.int32]

    def joined(self, codes: Tuples) -> Buckets:
        """With items of ``codes`` (m, L) behind the others: what building from all codes gives."""
        some, which = group_rows(codes)  # (new or known, L), (m,)
        places, known = places_of(self.tuples, some)
        fresh = places[~known]  # where new tuples go, in the old numbering
        numbers = places + np.cumsum(~known) - ~known  # of ``some``, in the new numbering
        tuple_of = np.concatenate([self.tuple_of, numbers[which].astype(np.int32)])
        _renumber(tuple_of[: len(self.tuple_of)], fresh)
        starts = np.insert(self.starts, fresh, self.starts[fresh])
        _raise_from(starts, numbers[which] + 1)
        ends = self.starts[places + known]  # of their ranges in the older items; of new tuples, where those would be
        order = np.argsort(which, kind="stable")  # by tuple, then row: behind each tuple's older items
        rows = (len(self.tuple_of) + order).astype(np.int32)
        items = np.insert(self.items, ends[which[order]], rows)
        return Buckets(np.insert(self.tuples, fresh, some[~known], axis=0), tuple_of, starts, items)


_FEW = 8
"""Places up to which one pass for each is faster than counting for all."""


def _raise_from(values: NDArray[np.int64], places: NDArray[np.int64]) -> None:
    """Add one to all of ``values`` from each of ``places`` on."""
    if len(places) <= _FEW:
        for place in places.tolist():
            values[place:] += 1
    else:
        values += np.cumsum(np.bincount(places, minlength=len(values)))


def _renumber(numbers: NDArray[np.int32], places: NDArray[np.int64]) -> None:
    """Add to each of ``numbers`` how many of ``places``, rising, are not above it."""
    if len(places) <= _FEW:
        for place in places[::-1].tolist():  # from the highest on, so that what was raised is not compared wrongly
            numbers += numbers >= place
    else:
        numbers += np.searchsorted(places, numbers, side="right").astype(np.int32)


def places_of(tuples: np.ndarray, rows: np.ndarray) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where ``rows`` (m, L) stand among sorted distinct ``tuples`` (t, L): (m,) places, and whether they are there."""
    low, high = np.zeros(len(rows), np.int64), np.full(len(rows), len(tuples))
    while (open_ := low < high).any():
        middle = (low + high) // 2
        there = tuples[np.minimum(middle, len(tuples) - 1)]
        first = (there != rows).argmax(axis=1)  # the first code that differs; 0 where none does
        each = np.arange(len(rows))
        after = there[each, first] < rows[each, first]
        low = np.where(open_ & after, middle + 1, low)
        high = np.where(open_ & ~after, middle, high)
    return low, (tuples[np.minimum(low, len(tuples) - 1)] == rows).all(axis=1) & (low < len(tuples))


@dataclass(frozen=True)
class Nodes:
    """Distinct nodes of a level that must be there after growth, sorted.

    Attributes
    ----------
    places: (m,) their numbers before, or where they would stand.
    known: (m,) whether they were there.
    numbers: (m,) their numbers after.
    """

    places: NDArray[np.int64]
    known: NDArray[np.bool_]
    numbers: NDArray[np.int64]

    def level(
        self, starts: NDArray[np.int64], codes: Tuples, above: NDArray[np.int64], wanted: Tuples
    ) -> tuple[NDArray[np.int64], Tuples, Nodes]:
        """Their level with some more children.

        Parameters
        ----------
        starts, codes: the level, as :class:`storerec.codes.tree.CodeTree` has it: borders (nodes + 1,) and the
            children's codes.
        above: (m,) which of these nodes stands above each wanted child, rising.
        wanted: (m,) the children's codes, rising below each node.

        Returns
        -------
        The level's borders and codes, and the wanted children.
        """
        place = self.places[above]
        low, ends = starts[place], starts[place + self.known[above]]
        places = _searched(codes, low, ends, wanted)
        known = (places < ends) & (codes[np.minimum(places, len(codes) - 1)] == wanted)
        fresh = self.places[~self.known]
        borders = np.insert(starts, fresh, starts[fresh])
        _raise_from(borders, self.numbers[above[~known]] + 1)
        children = Nodes(places, known, places + np.cumsum(~known) - ~known)
        return borders, np.insert(codes, places[~known], wanted[~known]), children


def _searched(
    values: np.ndarray, low: NDArray[np.int64], high: NDArray[np.int64], wanted: np.ndarray
) -> NDArray[np.int64]:
    """First place (m,) within low..high - 1, where ``values`` rise, whose value is not below the wanted one."""
    while (open_ := low < high).any():
        middle = (low + high) // 2
        after = values[np.minimum(middle, len(values) - 1)] < wanted
        low, high = np.where(open_ & after, middle + 1, low), np.where(open_ & ~after, middle, high)
    return low


def grown_levels(
    starts: tuple[NDArray[np.int64], ...], codes: tuple[Tuples, ...], rows: Tuples
) -> tuple[tuple[NDArray[np.int64], ...], tuple[Tuples, ...]]:
    """Borders and codes of all levels of a tree, with the tuples ``rows`` (m, L) in it."""
    some = group_rows(rows)[0]
    nodes = Nodes(np.zeros(1, np.int64), np.ones(1, bool), np.zeros(1, np.int64))  # the root
    number = np.zeros(len(some), np.int64)  # of each tuple's node among ``nodes``
    grown_starts, grown_codes = [], []
    for level, (borders, of_level) in enumerate(zip(starts, codes, strict=True)):
        first = np.ones(len(some), bool)
        first[1:] = (some[1:, : level + 1] != some[:-1, : level + 1]).any(axis=1)
        borders, of_level, nodes = nodes.level(borders, of_level, number[first], some[first, level])
        grown_starts.append(borders)
        grown_codes.append(of_level)
        number = np.cumsum(first) - 1
    return tuple(grown_starts), tuple(grown_codes)
