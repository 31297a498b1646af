"""Why an item is recommended: its path through the code tree, with the probabilities of its codes and of others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from storerec.codes import CodeTree
from storerec.data.histories import Histories

if TYPE_CHECKING:
    from storerec.pipeline.store import STORE

_TITLES = 3
"""Titles that say what a code stands for."""


@dataclass(frozen=True)
class Branch:
    """A code of some position, behind the codes before it.

    Attributes
    ----------
    code: its number.
    probability: of this code, given history and the codes before it, among those that lead to an item.
    items: how many lie under it, removed ones aside.
    titles: of some of these.
    """

    code: int
    probability: float
    items: int
    titles: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """One position of an item's semantic ID: the code it has, and the most probable others."""

    chosen: Branch
    others: tuple[Branch, ...]


@dataclass(frozen=True)
class Why:
    """How a history leads to an item.

    Attributes
    ----------
    item_id, title: the item.
    steps: one a position. The product of the chosen codes' probabilities is that of the item's codes.
    share: of the item among those with the same codes.
    alone: probability of the item by its own row, for recommenders that have such; else None.
    weight: of ``alone`` in the score; 0 where there is none.
    """

    item_id: str
    title: str
    steps: tuple[Step, ...]
    share: float
    alone: float | None
    weight: float

    @property
    def score(self) -> float:
        """Weighted mean of the log-probabilities by the codes (with the share) and by the item's own row.
        It is the score of recommendations.
        """
        tiny = np.finfo(np.float64).tiny
        factors = [step.chosen.probability for step in self.steps] + [self.share]
        by_codes = float(np.log(np.maximum(factors, tiny)).sum())
        alone = 0.0 if self.alone is None else float(np.log(max(self.alone, tiny)))
        return (1 - self.weight) * by_codes + self.weight * alone


@torch.no_grad()
def why(store: STORE, history: NDArray[np.integer], row: int, *, others: int = 4) -> Why:
    """How ``history`` (catalogue rows) leads to the item at ``row``: one pass along its path."""
    decoder, tree, normaliser = store.system.decoder, store.recommender.tree, store.system.normaliser
    one = Histories.from_arrays(["user"], np.array([0, len(history)]), np.asarray(history, np.int32))
    prefix, hidden = decoder.prefill(one)
    whole = decoder.item_log_probabilities(hidden)  # (1, items)
    hidden = hidden[:, None]  # (1, 1, width)
    node, steps = torch.zeros(1, 1, dtype=torch.int64, device=hidden.device), []
    for position, code in enumerate(store.table.codes[row].tolist()):
        children = tree.children(position, node)  # (1, 1, codes)
        logs = decoder.log_probabilities(hidden, position, children, normaliser)[0, 0]  # (codes,)
        steps.append(
            _step(store, position, children[0, 0].cpu().numpy(), logs.double().exp().cpu().numpy(), code, others)
        )
        node = children[..., code]  # (1, 1)
        if position + 1 < tree.levels:
            codes = torch.full((1, 1), code, dtype=torch.int64, device=hidden.device)
            path = torch.ones(1, 1, position + 1, dtype=torch.bool, device=hidden.device)
            hidden = decoder.step(prefix, codes, position, path)  # (1, 1, width)
    alone = None if whole is None else float(whole[0, row].double().exp())
    ids, titles = store.catalogue.ids, store.catalogue.titles
    weight = 0.0 if alone is None else store.config.search.item_weight
    return Why(ids[row], titles[row], tuple(steps), float(np.exp(store.table.shares[row])), alone, weight)


def _step(
    store: STORE, position: int, children: NDArray[np.int64], probability: NDArray[np.float64], code: int, others: int
) -> Step:
    """One position: ``children`` and their probabilities are by code, -1 where there is none."""
    order = np.argsort(-np.where(children >= 0, probability, -1.0), kind="stable")
    best = [int(c) for c in order if children[c] >= 0 and c != code]

    def branch(number: int) -> Branch:
        rows = items_below(store, position + 1, int(children[number]))
        titles = tuple(store.catalogue.titles[int(row)] for row in rows[:_TITLES])
        return Branch(number, float(probability[number]), len(rows), titles)

    found = [branch(number) for number in best[: 2 * others]]
    return Step(branch(code), tuple(one for one in found if one.items)[:others])


def items_below(store: STORE, level: int, node: int) -> NDArray[np.int32]:
    """Rows of the items under a node of the code tree, without removed ones."""
    first, end = leaves_below(store.recommender.tree.source, level, node)
    starts = store.table.bucket_starts
    rows = store.table.bucket_items[starts[first] : starts[end]]
    return rows[~store.removed[rows]]


def leaves_below(tree: CodeTree, level: int, node: int) -> tuple[int, int]:
    """Range of the leaves under a node."""
    first, end = node, node + 1
    for starts in tree.starts[level:]:
        first, end = int(starts[first]), int(starts[end])
    return first, end
