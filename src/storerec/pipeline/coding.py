"""Semantic IDs of items, stored or new."""

from __future__ import annotations

import numpy as np

from storerec.codes import Clusterer, CodeTable
from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.llm.inference import InferenceLayers
from storerec.llm.progress import Progress
from storerec.tokenizer import DenseTokenizer, encode_items
from storerec.tokenizer.samples import check_content


def codes_of(
    items: Catalogue,
    catalogue: Catalogue,
    table: CodeTable,
    tokenizer: DenseTokenizer,
    clusterer: Clusterer,
    options: RunOptions,
    *,
    layers: InferenceLayers | None = None,
) -> np.ndarray:
    """Codes (items, positions) of ``items``: published ones where item and text are known, else as the table extends.

    Raises
    ------
    ConfigError: the items lack an attribute the tokenizer reads.
    """
    names = list(check_content(items, tokenizer.settings))
    rows = catalogue.rows(items.ids)
    stored = catalogue.frame[np.maximum(rows, 0)]
    known = np.logical_and.reduce([rows >= 0, *((stored[name] == items.frame[name]).to_numpy() for name in names)])
    codes = np.empty((len(items), table.codes.shape[1]), np.int32)
    codes[known] = table.codes[rows[known]]
    if not known.all():
        dense = encode_items(tokenizer, items.select(~known), options, Progress(enabled=False), layers=layers)
        distances = clusterer.distances(dense) if table.policy == "reassign" else None
        codes[~known] = table.extend(clusterer.assign(dense), distances).codes[len(table) :]
    return codes
