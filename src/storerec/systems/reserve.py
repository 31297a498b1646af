"""Places of a list that are kept for new items, which a model ranks below those it was trained on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from storerec.systems.base import RankedLists


def places(k: int, share: float) -> int:
    """How many of ``k`` places a share of them is, whole ones only."""
    return int(share * k + 1e-9)  # .3 x 10 is 2.9999... in binary


def search_with_reserve(
    search: Callable[[int, NDArray[np.bool_]], RankedLists],
    k: NDArray[np.int64],
    share: NDArray[np.float64],
    new: NDArray[np.bool_],
    banned: NDArray[np.bool_],
) -> RankedLists:
    """Search once among all items and, where places are kept and there are new ones, once among these.

    Parameters
    ----------
    search: gives every user so many items, without some: (items,) bool.
    k, share: (users,) length of each list, and share of it that is kept for new items.
    new, banned: (items,) which are new, and which are in no list.

    Returns
    -------
    Lists of the longest ``k``; a user's own are the first so many of them.
    """
    longest = int(k.max(initial=1))
    lists = search(longest, banned)
    kept = any(places(*one) for one in zip(k.tolist(), share.tolist(), strict=True))
    if not kept or not (new & ~banned).any():
        return lists
    # as many as before, not as many as are kept: a search is as wide as it is long, and must not depend on other users
    return with_reserve(lists, search(longest, banned | ~new), new, share)


def with_reserve(
    lists: RankedLists, fresh: RankedLists, new: NDArray[np.bool_], share: NDArray[np.float64]
) -> RankedLists:
    """Lists whose first n places hold at least ``places(n, share)`` new items, for every n, where there are as many.

    New items that stand high enough by themselves count; where they are too few at a place that ends another part of
    the share (the tenth, twentieth and so on for a tenth), the best new one that is not yet listed takes it. So a list
    of ten is how a list of twenty begins. Scores are the system's, and so may rise behind such a place.

    Parameters
    ----------
    lists: the best items of each user, new ones among them.
    fresh: the best new items of each user, scored by the same system.
    new: (items,) which are new.
    share: (users,)
    """
    items, scores = lists.items.copy(), lists.scores.copy()
    for user in np.flatnonzero(share > 0).tolist():
        ranked, best = (
            list(zip(one.items[user].tolist(), one.scores[user].tolist(), strict=True)) for one in (lists, fresh)
        )
        chosen = _woven(ranked, best, new, float(share[user]))
        items[user], scores[user] = zip(*chosen, strict=True)
    return RankedLists(items, scores)


def _woven(
    ranked: list[tuple[int, float]], best: list[tuple[int, float]], new: NDArray[np.bool_], share: float
) -> list[tuple[int, float]]:
    """One list; what is no item (-1) stands at the end."""
    wait, reserve = [one for one in ranked if one[0] >= 0], [one for one in best if one[0] >= 0]
    chosen: list[tuple[int, float]] = []
    listed: set[int] = set()
    fresh = 0
    for place in range(1, len(ranked) + 1):
        while wait and wait[0][0] in listed:
            wait.pop(0)
        while reserve and reserve[0][0] in listed:
            reserve.pop(0)
        natural = bool(wait) and (fresh + bool(new[wait[0][0]]) >= places(place, share) or not reserve)
        source = wait if natural else reserve
        if not source:
            break
        one = source.pop(0)
        chosen.append(one)
        listed.add(one[0])
        fresh += bool(new[one[0]])
    return chosen + [(-1, -np.inf)] * (len(ranked) - len(chosen))
