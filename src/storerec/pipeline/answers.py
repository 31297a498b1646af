"""What STORE answers: recommended items, scores, and what the codes say about an item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storerec.codes import CodeReport, CodeTable, CodeTree
from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.data.judgements import Candidates
from storerec.errors import DataError
from storerec.systems.scorer import Scorer

_NAMED = 3


@dataclass(frozen=True)
class Recommendation:
    """One recommended item.

    Attributes
    ----------
    item_id, title: the item.
    score: log-probability that it comes next (with the bucket share, where items share codes).
    codes: its semantic ID.
    """

    item_id: str
    title: str
    score: float
    codes: tuple[int, ...]


@dataclass(frozen=True)
class Score:
    """One scored candidate.

    Attributes
    ----------
    item_id, title: the item.
    score: higher is better; what it means, ``STORE.scored_by`` says.
    """

    item_id: str
    title: str
    score: float


def scored(
    catalogue: Catalogue, scorer: Scorer, history: NDArray[np.integer], candidates: Sequence[str]
) -> list[Score]:
    """Candidates of one user by a scorer, best first, ties in the order given; DataError for none or unknown ones.

    ``history`` are catalogue rows, ``candidates`` item ids.
    """
    wanted = catalogue.rows(list(candidates)) if len(candidates) else np.empty(0, np.int64)
    if not len(wanted):
        raise DataError("candidates: give at least one item id")
    if (wanted < 0).any():
        raise DataError(f"candidates: no item '{list(candidates)[int(np.argmin(wanted))]}' in the catalogue")
    one = Histories.from_arrays(["user"], np.array([0, len(history)]), history)
    scores = scorer.score(Candidates(one, np.array([0, len(wanted)]), wanted.astype(np.int32)))
    best = np.argsort(-scores, kind="stable")
    return [Score(catalogue.ids[int(wanted[i])], catalogue.titles[int(wanted[i])], float(scores[i])) for i in best]


@dataclass(frozen=True)
class Explanation:
    """What the codes say about an item.

    Attributes
    ----------
    item_id, text: the item and its attributes.
    codes: its semantic ID.
    below: items under each node of its path through the tree, root first.
    siblings: (codes, titles of up to three items) of the other leaves under the last node before its own, by codes:
        what differs in the last code only.
    same_codes: ids of the other items with the same codes.
    neighbours: (item id, title, Hamming distance) of the nearest items by codes, nearest first.
    """

    item_id: str
    text: dict[str, str]
    codes: tuple[int, ...]
    below: tuple[int, ...]
    siblings: tuple[tuple[tuple[int, ...], tuple[str, ...]], ...]
    same_codes: tuple[str, ...]
    neighbours: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, eq=False)
class Inspection:
    """Items and their codes: what can be said of a trained STORE without its language model.

    Attributes
    ----------
    removed: (items,) bool, which are nobody's neighbours or siblings any more.
    """

    catalogue: Catalogue
    table: CodeTable
    tree: CodeTree
    removed: NDArray[np.bool_]

    def code_report(self) -> CodeReport:
        """Use of the codes: utilisation and perplexity by position, and collisions."""
        return self.table.report()

    def explain(self, item_id: str, *, neighbours: int = 5) -> Explanation:
        """What the codes say about an item; raises DataError for an unknown id."""
        return _explain(self, item_id, neighbours)

    def bucket(self, leaf: int) -> NDArray[np.int32]:
        """Rows of the items of a leaf, without removed ones."""
        rows = self.table.bucket(leaf)
        return rows[~self.removed[rows]]


def _explain(given: Inspection, item_id: str, neighbours: int) -> Explanation:
    catalogue, table, tree = given.catalogue, given.table, given.tree
    row = int(catalogue.rows([item_id])[0])
    if row < 0:
        raise DataError(f"no item '{item_id}' in the catalogue")
    ids, titles, codes = catalogue.ids, catalogue.titles, table.codes
    path = tree.path(row)
    first, end = tree.starts[-1][path[-2] : path[-2] + 2]  # leaves under the parent; leaves are the table's tuples
    beside = {leaf: given.bucket(leaf) for leaf in range(int(first), int(end)) if leaf != path[-1]}
    return Explanation(
        item_id,
        {name: catalogue.attribute(name)[row] for name in catalogue.attributes},
        tuple(int(c) for c in codes[row]),
        tuple(int(tree.leaves_below[level][node]) for level, node in enumerate(path)),
        tuple(
            (tuple(int(c) for c in table.tuples[leaf]), tuple(titles[int(i)] for i in rows[:_NAMED]))
            for leaf, rows in beside.items()
            if len(rows)
        ),
        tuple(ids[int(other)] for other in given.bucket(int(path[-1])) if other != row),
        tuple(
            (ids[int(n)], titles[int(n)], int((codes[n] != codes[row]).sum()))
            for n in table.hamming_neighbours(row, neighbours, without=given.removed)
        ),
    )
