"""Hiding a share of the items from all training, so that they can be added afterwards as new ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.data.splits import Cases
from storerec.errors import DataError


@dataclass(frozen=True, eq=False)
class ColdItems:
    """A catalogue in two parts: what training sees, and what is added to it afterwards.

    Rows are those of ``warm.concat(hidden)``: warm items first.

    Attributes
    ----------
    warm, hidden: the two parts.
    histories: what training may see: warm items alone, of test users only those before their target.
    cases: users whose target is a hidden item, each with the warm items before it.
    notes: what a report must say.
    """

    warm: Catalogue
    hidden: Catalogue
    histories: Histories
    cases: Cases
    notes: tuple[str, ...]


def hide_items(catalogue: Catalogue, histories: Histories, share: float, seed: int) -> ColdItems:
    """Hide a random ``share`` of the items, drawn by their ids and the seed alone.

    A user's target is the last hidden item in that user's history that has a warm one before it. What the user did
    from there on is left out of training, so that nothing of a test user's future is learnt from.

    Raises
    ------
    DataError: the share is not between 0 and 1, hides no item or all, or leaves no user to test.
    """
    if not 0 < share < 1:
        raise DataError(f"the share of items to hide must lie between 0 and 1, got {share}")
    wanted = round(share * len(catalogue))
    if not 0 < wanted < len(catalogue):
        raise DataError(
            f"a share of {share} hides {wanted} of {len(catalogue)} items; at least one must be on each side"
        )
    by_id = catalogue.ids.arg_sort().to_numpy()
    hidden = np.zeros(len(catalogue), bool)
    hidden[np.random.default_rng(seed).permutation(by_id)[:wanted]] = True
    row = np.empty(len(catalogue), np.int64)
    row[np.concatenate([np.flatnonzero(~hidden), np.flatnonzero(hidden)])] = np.arange(len(catalogue))
    target, end = _targets(histories, hidden)
    if not (target >= 0).any():
        raise DataError(f"no user has one of the {wanted} hidden items behind another; hide a larger share")
    place = np.arange(len(histories.items)) - np.repeat(histories.offsets[:-1], histories.lengths)
    kept = ~hidden[histories.items] & (place < np.repeat(end, histories.lengths))
    offsets = np.concatenate([[0], np.cumsum(kept)])[histories.offsets]
    seen = Histories(histories.user_ids, offsets, row[histories.items[kept]].astype(np.int32))
    users = np.flatnonzero(target >= 0)
    cases = Cases(seen.select(users), row[histories.items[target[users]]].astype(np.int32))
    left = seen.select(np.flatnonzero(seen.lengths > 0))
    notes = (
        f"{wanted:,} of {len(catalogue):,} items were hidden from all training and added afterwards (seed {seed})",
        f"{len(users):,} of {len(histories):,} users have a hidden item behind another: their last one is the target",
    )
    return ColdItems(catalogue.select(~hidden), catalogue.select(hidden), left, cases, notes)


def _targets(histories: Histories, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each user: the event of the target, -1 for none, and how many events lie before it (all, where none)."""
    is_hidden = hidden[histories.items]
    user = np.repeat(np.arange(len(histories)), histories.lengths)
    before = np.concatenate([[0], np.cumsum(~is_hidden)])
    warm_before = before[:-1] - before[histories.offsets[:-1]][user]  # of each event
    events = np.flatnonzero(is_hidden & (warm_before > 0))
    target = np.full(len(histories), -1, np.int64)
    target[user[events]] = events  # the last one stands, since events are in time order
    return target, np.where(target >= 0, target - histories.offsets[:-1], histories.lengths)
