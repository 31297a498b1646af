"""The code tree on the model's device."""

from __future__ import annotations

import warnings
from functools import cached_property

import numpy as np
import torch

from storerec.codes import CodeTree


class TorchTree:
    """Arrays of a :class:`CodeTree` as tensors, and the look-ups that search and loss need.

    What the search needs is there at once and small; what training needs of every item is made when it is asked for.
    """

    def __init__(self, tree: CodeTree, device: torch.device) -> None:
        self.source, self.device = tree, device
        self.levels = tree.levels
        self.sizes = tuple(tree.sizes)
        self._dense = [None if t is None else self._put(t) for t in map(tree.dense, range(tree.levels))]
        self._starts = [self._put(s) for s in tree.starts]
        self._codes = [self._put(c) for c in tree.codes]
        self._branching = [self._put(level) for level in tree.branching]
        self._nodes: dict[int, torch.Tensor] = {}

    def extended(self, tree: CodeTree, codes: np.ndarray) -> TorchTree:
        """That of ``tree``, an extension of this one's by items of ``codes`` (m, positions)."""
        other = TorchTree(tree, self.device)
        if "item_codes" in self.__dict__:  # where cached properties live
            other.__dict__["item_codes"] = torch.cat([self.item_codes, self._put(codes).long()])
        return other

    @cached_property
    def item_codes(self) -> torch.Tensor:
        """Codes of every item, (items, positions) int64."""
        nodes = [self._node_of(level) for level in range(1, self.levels + 1)]
        codes = [codes[node].long() for codes, node in zip(self._codes, nodes, strict=True)]
        return torch.stack(codes, dim=1)

    def _node_of(self, level: int) -> torch.Tensor:
        """Node of ``level`` over each item, (items,) int64; made when it is first asked for."""
        if level not in self._nodes:
            self._nodes[level] = self._put(self.source.node_of(level)).long()
        return self._nodes[level]

    def branches(self, level: int, nodes: torch.Tensor) -> torch.Tensor:
        """Whether any node at or below each of ``nodes`` has more than one child, same shape; -1 (no node) has not."""
        return self._branching[level][nodes.clamp(min=0)] & (nodes >= 0)

    def _put(self, array: np.ndarray) -> torch.Tensor:
        # on the CPU the arrays themselves, which may be those of a file: a copy of 20 million items takes gigabytes
        array = np.ascontiguousarray(array)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
            return torch.from_numpy(array).to(self.device)

    def node_of(self, level: int, items: torch.Tensor) -> torch.Tensor:
        """Nodes of ``level`` that ``items`` lie under, same shape."""
        return self._node_of(level)[items]

    def children(self, level: int, nodes: torch.Tensor) -> torch.Tensor:
        """Children of ``nodes`` by code: (...,) -> (..., codes of the position), -1 where the tree has none.

        A node of -1 is none, and has no children.
        """
        dense, cpu = self._dense[level], self.device.type == "cpu"
        if dense is None and cpu:
            # numpy lists the children there are, a third of the time of what a GPU, which wants fixed shapes, does
            return torch.from_numpy(self.source.children(level, nodes.numpy())).long()
        real = nodes.clamp(min=0)
        found = self._padded_children(level, real) if dense is None else dense[real].long()
        if cpu and not bool((nodes < 0).any()):  # seldom so, and filling takes longer than to look
            return found
        return found.masked_fill((nodes < 0)[..., None], -1)

    def _padded_children(self, level: int, nodes: torch.Tensor) -> torch.Tensor:
        """:meth:`children` of a level that is walked by ranges, in shapes that depend on no value."""
        starts = self._starts[level]
        first, count = starts[nodes], starts[nodes + 1] - starts[nodes]  # (...,)
        steps = torch.arange(self._most_children[level], device=self.device)
        child = (first[..., None] + steps).clamp(max=len(self._codes[level]) - 1)  # (..., most children)
        real = steps < count[..., None]
        size = self.sizes[level]
        # one spare column takes the writes of what is no child
        table = torch.full((*nodes.shape, size + 1), -1, dtype=torch.int64, device=self.device)
        where = torch.where(real, self._codes[level][child].long(), size)
        return table.scatter(-1, where, torch.where(real, child, -1))[..., :size]

    @cached_property
    def _most_children(self) -> list[int]:
        """Most children that a node of each level has."""
        return [int(np.diff(starts).max()) for starts in self.source.starts]
