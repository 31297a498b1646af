"""Items of a journal that another training gave codes: how they are let in under this one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from storerec.errors import ItemError, StorerecWarning
from storerec.pipeline.additions import Addition, Reading, planned, read_items_text
from storerec.pipeline.changes import Standing, catalogue_of
from storerec.pipeline.store import STORE


def plan_waiting(
    store: STORE, waiting: Mapping[str, Standing], read: dict[str, NDArray[np.float32]]
) -> tuple[Addition | None, dict[str, Standing]]:
    """Encode items that wait; changes nothing in ``store``.

    One that cannot be let in, since the attributes that this tokenizer reads are empty or no code is left, keeps
    nobody else out.

    Parameters
    ----------
    waiting: what :func:`~storerec.pipeline.changes.replay` gave.
    read: dense tokens by item of what was read before; what is read now is added.

    Returns
    -------
    What is to be let in, if anything, and the items that cannot be.

    Warns
    -----
    StorerecWarning: of the latter, why.
    """
    left, aside = dict(waiting), dict[str, Standing]()
    while left:
        try:
            if unread := {item: one for item, one in left.items() if item not in read}:
                texts = catalogue_of(unread, store.catalogue)
                read |= zip(unread, read_items_text(store, texts, store.encoding()).dense, strict=True)
            items = catalogue_of(left, store.catalogue)
            return planned(store, Reading(items, np.stack([read[item] for item in left]))), aside
        except ItemError as error:
            aside |= {item: left.pop(item) for item in error.item_ids}
            warnings.warn(
                f"{error}. Added under another training, it stays out of this one until it is added anew",
                StorerecWarning,
                stacklevel=2,
            )
    return None, aside
