"""Uniform semantic mapping (LC-Rec, arXiv 2311.09049): the last level's codes by optimal transport."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from storerec.codes.collisions import group_rows

_TINY = 1e-300


@dataclass(frozen=True)
class Transport:
    """Entropic optimal transport from items to codes, by Sinkhorn-Knopp.

    Attributes
    ----------
    epsilon: regularisation, for distances brought to -1..1.
    iterations: Sinkhorn-Knopp iterations.
    """

    epsilon: float
    iterations: int

    def plan(self, distances: torch.Tensor, capacities: torch.Tensor | None = None) -> torch.Tensor:
        """Plan with the least transport cost, all items weighing the same.

        Parameters
        ----------
        distances
            (n, k) squared distances.
        capacities
            (k,) shares of the codes, above 0; None gives every code the same.

        Returns
        -------
        (n, k) float64; rows sum to 1, columns to n x share.
        """
        cost = distances.double()  # (n, k)
        low, high = cost.min(), cost.max()
        cost = (cost - (low + high) / 2) / ((high - low) / 2).clamp_min(1e-12)
        # A row's offset is absorbed by its scale; without it the exponentials of a float64 would overflow
        kernel = torch.exp((cost.amin(1, keepdim=True) - cost) / self.epsilon)  # (n, k)
        shares = torch.ones_like(cost[0]) if capacities is None else capacities.to(cost)  # (k,)
        column = shares * (len(cost) / shares.sum())  # (k,)
        right = torch.ones_like(column)  # (k,)
        left = torch.ones_like(cost[:, 0])  # (n,)
        for _ in range(self.iterations):
            left = 1.0 / (kernel @ right).clamp_min(_TINY)  # (n,)
            right = column / (kernel.T @ left).clamp_min(_TINY)  # (k,)
            right = right / right.max()
        left = 1.0 / (kernel @ right).clamp_min(_TINY)
        return left[:, None] * kernel * right  # (n, k)


def spread(codes: np.ndarray, last: np.ndarray, transport: Transport) -> NDArray[np.int32]:
    """Give colliding items other codes of the last level, so that as few tuples as can be are shared.

    Items of one prefix (all levels but the last) share the last level's k codes. Those whose tuple is theirs alone
    keep it; the others are transported to the codes that are left, and the plan is rounded so that the prefix's
    items fill its codes evenly: at most one each, where the prefix has at most k items. No item changes its prefix.

    Parameters
    ----------
    codes
        (n, L) nearest codes.
    last
        (n, k) squared distances at the last level.
    transport
        how items are matched to codes.

    Returns
    -------
    (n, L) int32; items of equal distances are told apart by their row.
    """
    out = codes.astype(np.int32, copy=True)
    prefix = group_rows(codes[:, :-1])[1] if codes.shape[1] > 1 else np.zeros(len(codes), np.int32)
    tuple_of = group_rows(codes)[1]
    collides = np.bincount(tuple_of)[tuple_of] > 1
    order = np.argsort(prefix, kind="stable")
    borders = np.flatnonzero(np.diff(prefix[order])) + 1
    for rows in np.split(order, borders):
        movers = rows[collides[rows]]
        if len(movers) == 0:
            continue
        k = last.shape[1]
        held = np.bincount(codes[rows[~collides[rows]], -1], minlength=k)
        most, least = -(-len(rows) // k) - held, np.maximum(len(rows) // k - held, 0)  # (k,) of the movers, per code
        free = np.flatnonzero(most > 0)
        plan = transport.plan(torch.from_numpy(last[np.ix_(movers, free)]), torch.from_numpy(most[free]))
        out[movers, -1] = free[_rounded(plan.numpy(), least[free], most[free])]
    return out


def _rounded(plan: np.ndarray, least: np.ndarray, most: np.ndarray) -> NDArray[np.int64]:
    """Code (n,) of each item, so that each of the k codes gets between ``least`` and ``most`` (k,) items.

    Items ask for their largest share of ``plan`` (n, k), a code takes the largest askers it has room for, and the
    others ask again; the codes are filled to ``least`` first.
    """
    chosen = np.full(len(plan), -1, np.int64)
    for limit in (least, most):
        room = limit - np.bincount(chosen[chosen >= 0], minlength=len(limit))
        while room.any() and (waiting := np.flatnonzero(chosen < 0)).size:
            wish = np.where(room > 0, plan[waiting], -1.0).argmax(axis=1)  # (waiting,)
            order = np.lexsort((waiting, -plan[waiting, wish], wish))
            asked = wish[order]
            turn = np.arange(len(asked)) - np.searchsorted(asked, asked, side="left")
            taken = order[turn < room[asked]]
            chosen[waiting[taken]] = wish[taken]
            room = room - np.bincount(wish[taken], minlength=len(room))
    return chosen
