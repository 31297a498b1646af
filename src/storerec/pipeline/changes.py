"""What a bundle's journal says, done to the STORE that was loaded from the bundle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from storerec.bundle.journal import Change
from storerec.codes import CodeTable
from storerec.data.catalogue import Catalogue
from storerec.errors import BundleError, DataError
from storerec.pipeline.additions import Addition, apply, grow
from storerec.pipeline.answers import Inspection

if TYPE_CHECKING:
    from storerec.pipeline.store import STORE


@dataclass(frozen=True)
class Standing:
    """What the journal says of one item in the end.

    Attributes
    ----------
    text: its attributes by name.
    training: that under which its text was last written.
    codes: by training, the number of the change that gave it codes, and these.
    removed: whether it was taken out or brought back last; None where neither was.
    """

    text: dict[str, str] | None = None
    training: str = ""
    codes: Mapping[str, tuple[int, tuple[int, ...]]] = field(default_factory=dict)
    removed: bool | None = None

    def then(self, change: Change) -> Standing:
        """After one more change."""
        if change.kind in ("remove", "restore"):
            return replace(self, removed=change.kind == "remove")
        codes = self.codes
        if change.codes is not None:
            codes = {**codes, change.training: (change.number, change.codes)}
        if change.text is None:
            return replace(self, codes=codes)
        text, removed = change.text, self.removed
        if change.kind == "add":
            text = _named(text)
            if self.text is not None and text == _named(self.text):  # encoded anew by a version that wrote texts then
                return replace(self, codes=codes)
            if self.text is None:  # who added it did not know it: who does, and has it removed, brings it back
                removed = False
        text = (self.text or {}) | text
        return replace(self, text=text, training=change.training, codes=codes, removed=removed)


def _named(text: Mapping[str, str]) -> dict[str, str]:
    """Attributes that are not empty: those that a new item was not given are, and others may know them."""
    return {name: value for name, value in text.items() if value}


def changes_of(addition: Addition, training: str) -> list[Change]:
    """What an addition writes into the journal; nothing for what is unchanged."""
    changes = []
    columns = (addition.status, addition.codes.tolist(), addition.distances.tolist(), addition.changed)
    for text, status, codes, distances, changed in zip(addition.items.frame.to_dicts(), *columns, strict=True):
        item = text.pop("item_id")
        if status == "added":
            changes.append(Change("add", item, text, tuple(codes), tuple(distances), training))
        if status == "restored":
            changes.append(Change("restore", item, training=training))
        if changed:
            changes.append(Change("update", item, text, training=training))
    return changes


def encoded_anew(addition: Addition, training: str) -> list[Change]:
    """What an addition of items that waited writes into the journal: their codes, as their texts are another's."""
    return [replace(change, text=None) for change in changes_of(addition, training)]


def replay(
    store: STORE,
    changes: Iterable[Change],
    training: str,
    waiting: Mapping[str, Standing] | None = None,
    *,
    first: bool = True,
) -> dict[str, Standing]:
    """Do ``changes`` to ``store``, whose codes are of ``training``; repeating what is done already changes nothing.

    Items that were added under another training have to be encoded anew, since their codes were another language. Texts
    changed before the latest training are its own matter. What was removed stays so.

    Parameters
    ----------
    waiting: what an earlier call gave.
    first: whether these are all changes from the journal's beginning. Later ones are newer than the training, whichever
        they were made under.

    Returns
    -------
    Items that wait to be encoded, to be given to :func:`let_in` or to the next call.

    Raises
    ------
    BundleError: the journal gives an item other codes than the bundle does, or what it says does not fit.
    """
    states = _final(changes, waiting or {})
    rows = _rows(states, store.catalogue)
    if given := _given(states, rows, training, store.table):
        items, codes, table = _joined(given, training, store.catalogue, store.table)
        grow(store, items, codes, table)
    told = {
        item: one
        for item, one in states.items()
        if rows[item] >= 0 and one.text and (one.training == training or not first)
    }
    store.catalogue = _with_texts(store.catalogue, told)
    _mark(store.removed, states, store.catalogue)
    return {item: one for item, one in states.items() if _waits(one, rows[item], training)}


def let_in(store: STORE, addition: Addition, waiting: Mapping[str, Standing]) -> None:
    """Add items that waited, as they were :func:`~storerec.pipeline.additions.planned`."""
    apply(store, addition)
    _mark(store.removed, waiting, store.catalogue)


def inspected(inspection: Inspection, changes: Iterable[Change], training: str) -> tuple[Inspection, int]:
    """``inspection`` with what was added and changed under ``training``, and the number of items of other trainings."""
    states = _final(changes, {})
    catalogue, table, tree = inspection.catalogue, inspection.table, inspection.tree
    rows = _rows(states, catalogue)
    if given := _given(states, rows, training, table):
        items, _, table = _joined(given, training, catalogue, table)
        catalogue, tree = catalogue.concat(items), tree.extended(table)
    told = {item: one for item, one in states.items() if rows[item] >= 0 and one.text and one.training == training}
    catalogue = _with_texts(catalogue, told)
    removed = np.append(inspection.removed, np.zeros(len(catalogue) - len(inspection.removed), bool))
    _mark(removed, states, catalogue)
    return Inspection(catalogue, table, tree, removed), sum(
        _waits(one, rows[item], training) for item, one in states.items()
    )


def catalogue_of(states: Mapping[str, Standing], like: Catalogue) -> Catalogue:
    """Items of the journal as a catalogue with the attributes of ``like``, empty where the journal has none."""
    texts = [one.text or {} for one in states.values()]
    columns = {name: [text.get(name, "") for text in texts] for name in like.attributes}
    frame = pl.DataFrame({"item_id": list(states)} | columns, schema=dict.fromkeys(like.frame.columns, pl.String))
    return Catalogue(frame, like.title_attribute)


def _with_texts(catalogue: Catalogue, told: Mapping[str, Standing]) -> Catalogue:
    """``catalogue`` with the texts of items that it has; attributes that a text does not name stay as they are."""
    if not told:
        return catalogue
    rows = catalogue.rows(list(told))
    stored = zip(told.items(), catalogue.frame[rows].to_dicts(), strict=True)
    whole = {item: replace(one, text=before | (one.text or {})) for (item, one), before in stored}
    return catalogue.replaced(rows, catalogue_of(whole, catalogue))


def _waits(one: Standing, row: int, training: str) -> bool:
    """Whether an item that the catalogue lacks (``row`` < 0) has to be encoded under ``training``."""
    return row < 0 and bool(one.text) and training not in one.codes


def _mark(removed: NDArray[np.bool_], states: Mapping[str, Standing], catalogue: Catalogue) -> None:
    """Set in ``removed`` (items,) what the journal says of items that it took out or brought back."""
    marked = {item: one.removed for item, one in states.items() if one.removed is not None}
    for row, gone in zip(catalogue.rows(list(marked)).tolist(), marked.values(), strict=True):
        if row >= 0:
            removed[row] = gone


def _rows(states: Mapping[str, Standing], catalogue: Catalogue) -> dict[str, int]:
    return dict(zip(states, catalogue.rows(list(states)).tolist(), strict=True))


def _given(
    states: Mapping[str, Standing], rows: Mapping[str, int], training: str, table: CodeTable
) -> dict[str, Standing]:
    """Items that got codes under ``training`` and that the catalogue lacks, in the order in which they got them.

    With that order all who read the journal have the same rows, however much of it each reads at a time.
    """
    given = {item: one for item, one in states.items() if training in one.codes}
    for item, one in given.items():
        if rows[item] >= 0 and tuple(table.codes[rows[item]].tolist()) != one.codes[training][1]:
            raise BundleError(f"the journal of changes gives item '{item}' other codes than the bundle does")
    missing = [item for item in given if rows[item] < 0]
    return {item: given[item] for item in sorted(missing, key=lambda item: given[item].codes[training][0])}


def _joined(
    given: Mapping[str, Standing], training: str, catalogue: Catalogue, table: CodeTable
) -> tuple[Catalogue, NDArray[np.int32], CodeTable]:
    """Items of the journal with their codes, and the table with them in it."""
    codes = np.array([one.codes[training][1] for one in given.values()], np.int32)
    try:
        return catalogue_of(given, catalogue), codes, table.joined(codes)
    except DataError as error:
        raise BundleError(f"the journal of changes does not fit the bundle: {error}") from None


def _final(changes: Iterable[Change], before: Mapping[str, Standing]) -> dict[str, Standing]:
    """What the journal says of each item in the end, in the order of their first change."""
    states = dict(before)
    for change in changes:
        states[change.item_id] = states.get(change.item_id, Standing()).then(change)
    return states
