"""Items added to a trained STORE: from text to recommendable without training and without building anything anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from storerec.data.catalogue import Catalogue
from storerec.errors import DataError
from storerec.llm.progress import Progress
from storerec.tokenizer import encode_items
from storerec.tokenizer.samples import check_content

if TYPE_CHECKING:
    from storerec.llm.inference import InferenceLayers
    from storerec.pipeline.store import STORE


def add_items(store: STORE, items: Catalogue, layers: InferenceLayers) -> np.ndarray:
    """Give ``items`` codes and make ``store`` know them; their codes (m, positions).

    Nothing of ``store`` changes where an error is raised.

    Raises
    ------
    ConfigError: the items lack an attribute the tokenizer reads.
    DataError: an item is in the catalogue already, or gets a code that the recommender has no vectors for.
    """
    check_content(items, store.tokenizer.settings)
    known = np.flatnonzero(store.catalogue.rows(items.ids) >= 0)
    if known.size:
        raise DataError(f"item '{items.ids[int(known[0])]}' is in the catalogue already; its codes stay what they are")
    items = _as_the_catalogue(items, store.catalogue)
    dense = encode_items(store.tokenizer, items, store.options, Progress(enabled=False), layers=layers)
    distances = store.clusterer.distances(dense) if store.table.policy == "reassign" else None
    table = store.table.extend(store.clusterer.assign(dense), distances)
    codes = table.codes[len(store.table) :]
    beyond = (codes >= store.table.sizes).any(axis=1)
    if beyond.any():
        item = items.ids[int(np.argmax(beyond))]
        raise DataError(
            f"item '{item}': policy 'extra' has no number left for another item of its codes; train anew with it"
        )
    tree = store.recommender.tree.source.extended(table)
    catalogue = store.catalogue.concat(items)
    store.recommender.extend(tree, codes)
    if store.scorer is not None:
        store.scorer.extend(store.recommender)
    store.system = store.system.grown(table)
    store.table, store.catalogue = table, catalogue
    return codes


def _as_the_catalogue(items: Catalogue, catalogue: Catalogue) -> Catalogue:
    """``items`` with the attributes of ``catalogue``: empty where they lack one that is not read, without others."""
    lacking = [pl.lit("").alias(name) for name in catalogue.attributes if name not in items.attributes]
    return Catalogue(items.frame.with_columns(lacking).select(catalogue.frame.columns), catalogue.title_attribute)
