"""Which items a search must not return, and which nodes of the code tree that closes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from storerec.data.histories import Histories


@dataclass(frozen=True)
class Filter:
    """Items that must not be returned, as the search uses them.

    Attributes
    ----------
    allowed: (items,) bool, for all users.
    users, items: pairs of a user's place in the batch and an item that this user must not get, without repeats.
    """

    allowed: np.ndarray
    users: np.ndarray
    items: np.ndarray

    @classmethod
    def build(
        cls,
        n_items: int,
        histories: Histories,
        *,
        own: bool,
        banned: np.ndarray | None,
        each: Sequence[np.ndarray] | None = None,
    ) -> Filter:
        """From exclusions: ``own`` bans histories, ``banned`` rows (or (items,) bool), ``each`` one user's rows."""
        allowed = np.ones(n_items, bool)
        if banned is not None:
            allowed[banned] = False
        pairs = np.empty(0, np.int64)  # user x items + item
        if own:
            users = np.repeat(np.arange(len(histories)), histories.lengths)
            pairs = users * np.int64(n_items) + histories.items
        if each is not None:
            pairs = np.concatenate([pairs, *(user * n_items + rows for user, rows in enumerate(each))])
        pairs = np.unique(pairs.astype(np.int64))
        pairs = pairs[allowed[pairs % n_items]]
        return cls(allowed, pairs // n_items, pairs % n_items)

    @property
    def empty(self) -> bool:
        """Whether nothing is filtered."""
        return bool(self.allowed.all()) and len(self.users) == 0


class Gate:
    """Which nodes of a level have an item left for a user: what makes filters act inside the search."""

    def __init__(self, filter_: Filter, tree: Any) -> None:
        self.keys: list[torch.Tensor | None] = []
        self.closed: list[torch.Tensor | None] = []
        self.nodes: list[int] = []
        source = tree.source
        everyone = bool(filter_.allowed.all())  # then no node is closed: none of a tree is without items
        below = source.leaves_below if everyone else source.counts_below(filter_.allowed)
        for level in range(tree.levels + 1):
            counts = below[level]
            self.nodes.append(len(counts))
            closed = None if everyone else counts == 0
            shut = closed is not None and closed.any()
            self.closed.append(torch.from_numpy(closed).to(tree.device) if shut else None)
            nodes = source.nodes_over(level, filter_.items)
            pairs, taken = np.unique(filter_.users * len(counts) + nodes, return_counts=True)
            full = pairs[taken == counts[pairs % len(counts)]] if len(pairs) else pairs
            self.keys.append(torch.from_numpy(full).to(tree.device) if len(full) else None)

    def shut(self, level: int, children: torch.Tensor) -> torch.Tensor:
        """(users, beams, codes) bool: children at ``level`` under which nothing is left."""
        safe = children.clamp(min=0)
        shut = children < 0
        closed, keys = self.closed[level], self.keys[level]
        if closed is not None:
            shut = shut | closed[safe]
        if keys is not None:
            users = torch.arange(len(children), device=children.device)[:, None, None]
            shut = shut | torch.isin(users * self.nodes[level] + safe, keys)
        return shut
