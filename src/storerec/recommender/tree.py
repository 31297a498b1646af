"""The code tree on the model's device."""

from __future__ import annotations

import numpy as np
import torch

from storerec.codes import CodeTree


class TorchTree:
    """Arrays of a :class:`CodeTree` as tensors, and the look-ups that search and loss need.

    Attributes
    ----------
    item_codes: (items, positions) int64 codes of every item.
    """

    def __init__(self, tree: CodeTree, device: torch.device) -> None:
        self.source, self.device = tree, device
        self.levels = tree.levels
        self.sizes = tuple(tree.sizes)
        self._dense = [None if t is None else self._put(t) for t in tree.dense]
        self._starts = [self._put(s) for s in tree.starts]
        self._codes = [self._put(c) for c in tree.codes]
        self._nodes = [self._put(tree.node_of(level)) for level in range(tree.levels + 1)]
        self.item_codes = torch.stack(
            [self._codes[level][self._nodes[level + 1]] for level in range(tree.levels)], dim=1
        )  # (items, positions)

        self._branching = [torch.from_numpy(level).to(device) for level in _branching(tree)]

    def branches(self, level: int, nodes: torch.Tensor) -> torch.Tensor:
        """Whether any node at or below each of ``nodes`` has more than one child, same shape; -1 (no node) has not."""
        return self._branching[level][nodes.clamp(min=0)] & (nodes >= 0)

    def _put(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array).astype(np.int64)).to(self.device)

    def node_of(self, level: int, items: torch.Tensor) -> torch.Tensor:
        """Nodes of ``level`` that ``items`` lie under, same shape."""
        return self._nodes[level][items]

    def children(self, level: int, nodes: torch.Tensor) -> torch.Tensor:
        """Children of ``nodes`` by code: (...,) -> (..., codes of the position), -1 where the tree has none."""
        dense = self._dense[level]
        if dense is not None:
            return dense[nodes]
        starts = self._starts[level]
        first, count = starts[nodes], starts[nodes + 1] - starts[nodes]  # (...,)
        steps = torch.arange(int(count.max()) if count.numel() else 0, device=self.device)
        child = (first[..., None] + steps).clamp(max=len(self._codes[level]) - 1)  # (..., most children)
        real = steps < count[..., None]
        size = self.sizes[level]
        # one spare column takes the writes of what is no child
        table = torch.full((*nodes.shape, size + 1), -1, dtype=torch.int64, device=self.device)
        where = torch.where(real, self._codes[level][child], size)
        return table.scatter(-1, where, torch.where(real, child, -1))[..., :size]


def _branching(tree: CodeTree) -> list[np.ndarray]:
    """Per level (nodes,) bool: whether a node leads to several leaves."""
    levels = [np.zeros(tree.nodes(tree.levels), bool)]
    for starts in reversed(tree.starts):
        levels.append((np.diff(starts) > 1) | levels[-1][starts[:-1]])  # of one child, what is below that
    return levels[::-1]
