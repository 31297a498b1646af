"""Training on judgements: groups as samples, and the ranking measure that decides on the best weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from storerec.data.judgements import Judgements
from storerec.errors import DataError


class GroupSamples(Dataset):
    """One sample per group that has a positive and a negative candidate: the places of some of its candidates.

    Groups larger than ``most`` (at least 2) give, each epoch anew and fixed by (seed, epoch), ``most`` of their
    candidates, as many positive as negative as far as there are any.

    Attributes
    ----------
    groups: (samples,) the groups used.
    lengths: (samples,) how many candidates each gives.
    """

    def __init__(self, judgements: Judgements, most: int, *, seed: int) -> None:
        self.groups = np.flatnonzero((judgements.positives > 0) & (judgements.negatives > 0))
        if not len(self.groups):
            raise DataError("training a scorer needs groups with a positive and a negative candidate; there are none")
        self._judgements, self._most, self._seed = judgements, most, seed
        self.lengths = np.minimum(judgements.candidates.lengths[self.groups], most)
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw the candidates of groups that are too large."""
        candidates, labels = self._judgements.candidates, self._judgements.labels
        places = candidates.places(self.groups)
        of = np.repeat(np.arange(len(self.groups)), candidates.lengths[self.groups])
        drawn = np.random.default_rng([self._seed, epoch, 7]).random(len(places))
        # within a group: half of the room for each kind, what is left for any others in the order drawn
        favoured = _rank(of, labels[places], drawn) < self._most // 2
        kept = _rank(of, None, drawn - 2.0 * favoured) < self._most
        self._places, self._offsets = places[kept], np.concatenate([[0], np.cumsum(np.bincount(of[kept]))])

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> tuple[int, NDArray[np.int64]]:
        """The group's number and the places of its candidates, in their order."""
        return int(self.groups[index]), self._places[self._offsets[index] : self._offsets[index + 1]]


def _rank(group: NDArray[np.int64], kind: NDArray[np.bool_] | None, key: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rank of each entry by ``key`` among those of its group (and kind)."""
    cell = group if kind is None else 2 * group + kind
    order = np.lexsort((key, cell))
    sizes = np.bincount(cell)
    starts = np.cumsum(sizes) - sizes
    rank = np.empty(len(cell), np.int64)
    rank[order] = np.arange(len(cell)) - starts[cell[order]]
    return rank


def mean_auc(judgements: Judgements, scores: NDArray[np.floating]) -> float:
    """AUC of each group, averaged over the groups that have both kinds of candidates; ties count half.

    nan when no group has both.
    """
    group, labels = judgements.candidates.groups, judgements.labels
    order = np.lexsort((scores, group))
    g, s = group[order], np.asarray(scores)[order]
    new = np.concatenate([[True], (g[1:] != g[:-1]) | (s[1:] != s[:-1])])  # a new run of equal scores in a group
    run = np.cumsum(new) - 1
    middle = (np.bincount(run, np.arange(len(g))) / np.bincount(run))[run]  # tied candidates share their mean place
    place = np.empty(len(g))
    place[order] = middle - judgements.candidates.offsets[g]
    positive, negative = judgements.positives, judgements.negatives
    both = (positive > 0) & (negative > 0)
    if not both.any():
        return float("nan")
    summed = np.bincount(group, place * labels, minlength=len(positive))
    wins = summed[both] - positive[both] * (positive[both] - 1) / 2
    return float((wins / (positive[both] * negative[both])).mean())
