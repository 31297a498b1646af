"""What nodes of the code tree promise, by the scores of whole items below them."""

from __future__ import annotations

from typing import Any

import torch

from storerec.recommender.filter import Filter


class Lookahead:
    """Looks ahead with the scores of whole items, which are known before the first step.

    A node promises the weighted mean of its own log-probability and the best one of any item left under it: no item
    below can score more, since log-probabilities of codes only fall on the way down. Ranking nodes by the codes alone
    would drop items whose own score is high before that score counts: on MovieLens-100K 20 beams found lists of
    validation NDCG@10 .103 without looking ahead and .114 with it, as 100 do (one model, item weight .8).

    Parameters
    ----------
    whole: (users, items) log-probabilities.
    weight: their share in an item's score.
    """

    def __init__(self, whole: torch.Tensor, weight: float, filter_: Filter, tree: Any) -> None:
        self.weight = weight
        left = torch.from_numpy(filter_.allowed).to(whole.device).expand(len(whole), -1).clone()  # (users, items)
        left[torch.from_numpy(filter_.users).to(whole.device), torch.from_numpy(filter_.items).to(whole.device)] = False
        whole, items = whole.masked_fill(~left, -torch.inf), torch.arange(whole.shape[1], device=whole.device)
        self.best: list[torch.Tensor] = []
        for level in range(tree.levels + 1):
            under = tree.node_of(level, items)  # (items,)
            empty = whole.new_full((len(whole), int(under.max()) + 1), -torch.inf)
            self.best.append(empty.scatter_reduce(1, under.expand_as(whole), whole, "amax"))  # (users, nodes)

    def promise(self, scores: torch.Tensor, level: int, children: torch.Tensor) -> torch.Tensor:
        """What nodes of ``level`` promise, (users, beams, codes) like their log-probabilities ``scores``."""
        best = self.best[level].gather(1, children.clamp(min=0).flatten(1)).view_as(scores)
        mean = (1 - self.weight) * scores + self.weight * best
        return mean.masked_fill((scores == -torch.inf) | (best == -torch.inf), -torch.inf)
