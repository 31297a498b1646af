"""What a bundle's journal says, done to the STORE that was loaded from the bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from storerec.bundle import Manifest
from storerec.bundle.journal import Change
from storerec.codes import CodeTable
from storerec.data.catalogue import Catalogue
from storerec.errors import BundleError, DataError
from storerec.pipeline.additions import Addition, apply, grow, planned, read_items_text
from storerec.pipeline.answers import Inspection

if TYPE_CHECKING:
    from storerec.llm.inference import InferenceLayers
    from storerec.pipeline.store import STORE


@dataclass
class _State:
    """What the journal says of one item in the end."""

    text: dict[str, str] | None = None
    codes: tuple[int, ...] | None = None
    training: str = ""
    removed: bool | None = None


def training_of(manifest: Manifest) -> str:
    """Identity of the training that gives out codes: of the tokenizer's and the clusters' files."""
    files = [manifest.files[f"{name}.safetensors"].sha256 for name in ("tokenizer", "clusterer")]
    return hashlib.sha256(" ".join(files).encode()).hexdigest()[:32]


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


def replay(
    store: STORE, changes: Iterable[Change], training: str, layers: Callable[[], InferenceLayers]
) -> list[Change]:
    """Do ``changes`` to ``store``, whose codes are of ``training``; repeating what is done already changes nothing.

    Items that were added under another training are encoded anew, since their codes were another language. Texts
    changed before the latest training are its own matter. What was removed stays so.

    Returns
    -------
    What was encoded anew, for the journal.

    Raises
    ------
    BundleError: the journal gives an item other codes than the bundle does, or what it says does not fit.
    """
    states = _final(changes)
    rows = _rows(states, store.catalogue)
    if given := _given(states, rows, training, store.table):
        items, codes, table = _joined(given, store.catalogue, store.table)
        grow(store, items, codes, table)
    ours = {item: one for item, one in states.items() if one.training == training}
    told = {item: one for item, one in ours.items() if rows[item] >= 0 and one.text}
    if told:
        texts = _catalogue(told, store.catalogue)
        store.catalogue = store.catalogue.replaced(store.catalogue.rows(texts.ids), texts)
    anew = {item: one for item, one in states.items() if rows[item] < 0 and one.text and item not in ours}
    again: list[Change] = []
    if anew:
        addition = planned(store, read_items_text(store, _catalogue(anew, store.catalogue), layers()))
        apply(store, addition)
        again = changes_of(addition, training)
    _mark(store.removed, states, store.catalogue)
    return again


def inspected(inspection: Inspection, changes: Iterable[Change], training: str) -> tuple[Inspection, int]:
    """``inspection`` with what was added and changed under ``training``, and the number of items of other trainings."""
    states = _final(changes)
    catalogue, table, tree = inspection.catalogue, inspection.table, inspection.tree
    rows = _rows(states, catalogue)
    if given := _given(states, rows, training, table):
        items, _, table = _joined(given, catalogue, table)
        catalogue, tree = catalogue.concat(items), tree.extended(table)
    told = {item: one for item, one in states.items() if rows[item] >= 0 and one.text and one.training == training}
    if told:
        texts = _catalogue(told, catalogue)
        catalogue = catalogue.replaced(catalogue.rows(texts.ids), texts)
    others = sum(rows[item] < 0 and bool(one.text) and one.training != training for item, one in states.items())
    removed = np.append(inspection.removed, np.zeros(len(catalogue) - len(inspection.removed), bool))
    _mark(removed, states, catalogue)
    return Inspection(catalogue, table, tree, removed), others


def _mark(removed: NDArray[np.bool_], states: dict[str, _State], catalogue: Catalogue) -> None:
    """Set in ``removed`` (items,) what the journal says of items that it took out or brought back."""
    marked = {item: one.removed for item, one in states.items() if one.removed is not None}
    for row, gone in zip(catalogue.rows(list(marked)).tolist(), marked.values(), strict=True):
        if row >= 0:
            removed[row] = gone


def _rows(states: dict[str, _State], catalogue: Catalogue) -> dict[str, int]:
    return dict(zip(states, catalogue.rows(list(states)).tolist(), strict=True))


def _given(states: dict[str, _State], rows: dict[str, int], training: str, table: CodeTable) -> dict[str, _State]:
    """Items that got codes under ``training`` and that the catalogue lacks."""
    given = {item: one for item, one in states.items() if one.training == training and one.codes}
    for item, one in given.items():
        if rows[item] >= 0 and tuple(table.codes[rows[item]].tolist()) != one.codes:
            raise BundleError(f"the journal of changes gives item '{item}' other codes than the bundle does")
    return {item: one for item, one in given.items() if rows[item] < 0}


def _joined(
    given: dict[str, _State], catalogue: Catalogue, table: CodeTable
) -> tuple[Catalogue, NDArray[np.int32], CodeTable]:
    """Items of the journal with their codes, and the table with them in it."""
    codes = np.array([one.codes for one in given.values()], np.int32)
    try:
        return _catalogue(given, catalogue), codes, table.joined(codes)
    except DataError as error:
        raise BundleError(f"the journal of changes does not fit the bundle: {error}") from None


def _final(changes: Iterable[Change]) -> dict[str, _State]:
    """What the journal says of each item in the end, in the order of their first change."""
    states: dict[str, _State] = {}
    for change in changes:
        state = states.setdefault(change.item_id, _State())
        if change.text is not None:
            state.text = change.text
        if change.kind in ("add", "update"):
            state.training = change.training
        if change.kind == "add":
            state.codes = change.codes
        if change.kind in ("remove", "restore"):
            state.removed = change.kind == "remove"
    return states


def _catalogue(states: dict[str, _State], like: Catalogue) -> Catalogue:
    """Items of the journal as a catalogue with the attributes of ``like``, empty where the journal has none."""
    texts = [one.text or {} for one in states.values()]
    columns = {name: [text.get(name, "") for text in texts] for name in like.attributes}
    frame = pl.DataFrame({"item_id": list(states)} | columns, schema=dict.fromkeys(like.frame.columns, pl.String))
    return Catalogue(frame, like.title_attribute)
