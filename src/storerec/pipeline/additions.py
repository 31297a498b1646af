"""Items added to a trained STORE: from text to recommendable without training and without building anything anew."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from storerec.codes import CodeTable
from storerec.data.catalogue import Catalogue
from storerec.errors import ItemError
from storerec.llm.progress import Progress
from storerec.tokenizer import encode_items
from storerec.tokenizer.samples import check_content

if TYPE_CHECKING:
    from storerec.llm.inference import InferenceLayers
    from storerec.pipeline.store import STORE

Status = Literal["added", "unchanged", "updated", "restored"]


@dataclass(frozen=True, eq=False)
class Addition:
    """What adding some items comes to, before anything has changed.

    Attributes
    ----------
    items: all of them, with the catalogue's attributes.
    status: (n,) what becomes of each: ``added``; or, of one that is known, ``updated`` where its text has changed,
        ``restored`` where it had been removed, else ``unchanged``. Codes once given out stay what they are.
    codes: (n, positions) those it gets, or has.
    changed: (n,) bool, known ones whose text is another.
    table: the code table with the new ones in it.
    distances: (n, dense tokens) squared distances of the new ones to their centres; of others 0.
    """

    items: Catalogue
    status: NDArray[np.str_]
    codes: NDArray[np.int32]
    changed: NDArray[np.bool_]
    table: CodeTable
    distances: NDArray[np.float64]

    @property
    def new(self) -> NDArray[np.bool_]:
        """(n,) which the catalogue did not have."""
        return self.status == "added"

    def frame(self) -> pl.DataFrame:
        """``item_id``, ``status`` and ``codes``, in the order given."""
        columns = {"item_id": self.items.ids, "status": self.status.tolist(), "codes": self.codes.tolist()}
        return pl.DataFrame(columns, schema_overrides={"codes": pl.List(pl.Int32), "status": pl.String})


@dataclass(frozen=True, eq=False)
class Reading:
    """Items as the language model read them, before codes are given out.

    Attributes
    ----------
    items: all of them, as they were given.
    dense: (n, dense tokens, width) of those that the catalogue lacked; zeros of others, which were not read.
    """

    items: Catalogue
    dense: NDArray[np.float32]


def read_items_text(
    store: STORE, items: Catalogue, layers: InferenceLayers, progress: Progress | None = None
) -> Reading:
    """Let the language model read the items that the catalogue lacks: what takes time, and depends on no other item.

    Raises
    ------
    ConfigError: the items lack an attribute the tokenizer reads.
    ItemError: an item has no text to read.
    """
    read = check_content(items, store.tokenizer.settings)
    rows = store.catalogue.rows(items.ids)
    whole = _as_the_catalogue(items, rows, store.catalogue)
    _check_text(whole, read)
    settings, bar = store.tokenizer.settings, progress or Progress(enabled=False)
    if (rows < 0).all():
        return Reading(items, encode_items(store.tokenizer, whole, store.options, bar, layers=layers))
    dense = np.zeros((len(items), settings.dense_tokens, store.tokenizer.backbone.width), np.float32)
    if (rows < 0).any():
        dense[rows < 0] = encode_items(store.tokenizer, whole.select(rows < 0), store.options, bar, layers=layers)
    return Reading(items, dense)


def planned(store: STORE, reading: Reading) -> Addition:
    """What adding items comes to, as ``store`` is now; changes nothing.

    Raises
    ------
    ItemError: there are no codes left for an item, or it gets one that the recommender has no vectors for.
    """
    rows = store.catalogue.rows(reading.items.ids)
    # only now: a text that somebody changed while these were read is not to be written over with what it was before
    items = _as_the_catalogue(reading.items, rows, store.catalogue)
    new, at = rows < 0, np.maximum(rows, 0)
    differs = [(store.catalogue.frame[name][at] != items.frame[name]).to_numpy() for name in items.attributes]
    changed = ~new & np.logical_or.reduce(differs)
    status = np.select([new, store.removed[at], changed], ["added", "restored", "updated"], "unchanged")
    table, codes = store.table, store.table.codes[at].copy()
    apart = np.zeros(reading.dense.shape[:2])
    if new.any():
        dense = reading.dense[new]
        if table.policy == "reassign":
            _check_room(items.select(new), table)
        distances = store.clusterer.distances(dense) if table.policy == "reassign" else None
        table = table.extend(store.clusterer.assign(dense), distances)
        codes[new] = table.codes[len(store.table) :]
        _check_codes(items.select(new), codes[new], store.table)
        apart[new] = store.clusterer.nearest_distances(dense)
    return Addition(items, status, codes, changed, table, apart)


def apply(store: STORE, addition: Addition) -> None:
    """Let ``store`` know what was :func:`planned` for it as it is now."""
    new = addition.new
    if new.any():
        grow(store, addition.items.select(new), addition.codes[new], addition.table)
    if addition.changed.any():
        some = addition.items.select(addition.changed)
        store.catalogue = store.catalogue.replaced(store.catalogue.rows(some.ids), some)
    back = addition.status == "restored"
    if back.any():
        store.removed[store.catalogue.rows(addition.items.ids.filter(pl.Series(back)))] = False


def grow(store: STORE, items: Catalogue, codes: np.ndarray, table: CodeTable) -> None:
    """Append ``items`` with ``codes`` (m, positions), which are the last ones of ``table``."""
    tree = store.recommender.tree.source.extended(table)
    catalogue = store.catalogue.concat(items)
    store.recommender.extend(tree, codes)
    if store.scorer is not None:
        store.scorer.extend(store.recommender)
    store.system = store.system.grown(table)
    store.table, store.catalogue = table, catalogue
    store.removed = np.append(store.removed, np.zeros(len(items), bool))
    store.forget_scoring()


def _as_the_catalogue(items: Catalogue, rows: NDArray[np.int64], catalogue: Catalogue) -> Catalogue:
    """``items`` with the attributes of ``catalogue``: what they lack stays as it is, or is empty in a new one."""
    columns = []
    for name in catalogue.attributes:
        if name not in items.attributes:
            stored = catalogue.frame[name][np.maximum(rows, 0)]
            columns.append(
                pl.select(pl.when(pl.Series(rows >= 0)).then(stored).otherwise(pl.lit("")).alias(name))[name]
            )
    return Catalogue(items.frame.with_columns(columns).select(catalogue.frame.columns), catalogue.title_attribute)


def _check_text(items: Catalogue, read: tuple[str, ...]) -> None:
    texts = items.frame.select(pl.all_horizontal(pl.col(name).str.strip_chars() == "" for name in read)).to_series()
    _refuse(items, texts.to_numpy(), f"no text in {', '.join(read)}, so its codes would say nothing; give it a text")


def _check_room(items: Catalogue, table: CodeTable) -> None:
    room = math.prod(int(size) for size in table.sizes) - len(table)
    beyond = np.zeros(len(items), bool)
    beyond[max(room, 0) :] = True
    _refuse(items, beyond, "policy 'reassign' has no codes left; train anew with more clusters")


def _check_codes(items: Catalogue, codes: np.ndarray, before: CodeTable) -> None:
    beyond = np.asarray((codes >= before.sizes).any(axis=1))
    _refuse(items, beyond, "policy 'extra' has no number left for another item of its codes; train anew with it")


def _refuse(items: Catalogue, bad: NDArray[np.bool_], reason: str) -> None:
    if bad.any():
        raise ItemError(reason, item_ids=items.ids.filter(pl.Series(bad)).to_list())
