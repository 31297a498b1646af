"""Log-probabilities of codes and the loss that trains them, for any model with a row of logits per position."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F

from storerec.recommender.config import Normaliser
from storerec.recommender.tree import TorchTree


class CodeHead(Protocol):
    """What predicts codes from a model's outputs."""

    def logits(self, hidden: torch.Tensor, position: int) -> torch.Tensor:
        """Logits over the codes of ``position``: (..., width) -> (..., codes)."""
        ...

    def vocabulary_logsumexp(self, hidden: torch.Tensor) -> torch.Tensor:
        """Log of the summed exponentials over all tokens there are: (..., width) -> (...)."""
        ...


def code_loss(
    head: CodeHead, tree: TorchTree, hidden: torch.Tensor, items: torch.Tensor, normaliser: Normaliser
) -> torch.Tensor:
    """Mean cross-entropy of the codes of ``items`` (targets,) under outputs ``hidden`` (targets, positions, width)."""
    losses = [position_loss(head, tree, hidden[:, p], items, p, normaliser) for p in range(tree.levels)]
    return torch.stack(losses).mean()


def position_loss(
    head: CodeHead, tree: TorchTree, hidden: torch.Tensor, items: torch.Tensor, position: int, normaliser: Normaliser
) -> torch.Tensor:
    """Mean cross-entropy of one position's codes of ``items`` (targets,) under outputs ``hidden`` (targets, width)."""
    answer = tree.item_codes[items][:, position]  # (targets,)
    logits = head.logits(hidden, position)  # (targets, codes of the position)
    if normaliser == "vocabulary":
        return (head.vocabulary_logsumexp(hidden) - logits.gather(1, answer[:, None])[:, 0]).mean()
    if normaliser == "children":
        children = tree.children(position, tree.node_of(position, items))
        logits = logits.masked_fill(children < 0, -torch.inf)
    return F.cross_entropy(logits, answer)


def code_log_probabilities(
    head: CodeHead, hidden: torch.Tensor, position: int, children: torch.Tensor, normaliser: str
) -> torch.Tensor:
    """Log-probabilities of the codes of ``position``: (..., width) -> (..., codes).

    ``children`` (..., codes) are the tree's children (-1 = none); they matter for the normaliser ``children`` only.
    """
    logits = head.logits(hidden, position)
    if normaliser == "vocabulary":
        return logits - head.vocabulary_logsumexp(hidden)[..., None]
    if normaliser == "children":
        logits = logits.masked_fill(children < 0, -torch.inf)
        # a dead beam (no children at all) keeps minus infinity instead of nan
        return (logits - logits.logsumexp(-1, keepdim=True).clamp(min=torch.finfo(logits.dtype).min)).nan_to_num(
            nan=-torch.inf, neginf=-torch.inf
        )
    return logits.log_softmax(-1)
