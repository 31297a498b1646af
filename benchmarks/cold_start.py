"""One new item from text to recommendable, in a catalogue of a million items.

    python -m benchmarks.cold_start --out runs/bench

SmolLM2-135M, a tokenizer with its adapter, a recommender on all layers, 4 positions of 256 codes drawn at random. The
time is that of ``STORE.add_items`` with one item of some 20 tokens: reading its text, assigning its codes, table, tree
and ids with it in them. Afterwards it is recommended where nothing else is allowed. The bound is that reading
alone, at the rate of the layers' products for so many tokens; building table and tree anew is told beside it.
"""

from __future__ import annotations

import time

import numpy as np
import polars as pl

from benchmarks.harness import arguments, layers_rate, row, write
from storerec.codes import Clusterer, ClustererConfig, CodeTable, CodeTree
from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.llm.backbone import Backbone, BackboneConfig
from storerec.pipeline import STORE, StoreConfig
from storerec.recommender import Recommender, RecommenderConfig
from storerec.systems.base import Exclusions
from storerec.tokenizer import DenseTokenizer, TokenizerConfig
from storerec.tokenizer.samples import content_ids

CODES, POSITIONS = 256, 4


def build(items: int) -> STORE:
    """A store that was not trained: time does not depend on what was learned."""
    rng = np.random.default_rng(0)
    options = RunOptions(device="cpu", progress=False)
    number = pl.int_range(items, eager=True).cast(pl.String)
    frame = pl.DataFrame({"item_id": "item-" + number, "title": "a thing with the number " + number})
    backbone = Backbone.load(BackboneConfig(), options)
    tokenizer = DenseTokenizer(backbone, TokenizerConfig(content=("title",), dense_tokens=POSITIONS), 1)
    vectors = rng.standard_normal((4 * CODES, POSITIONS, backbone.width)).astype(np.float32)
    clusterer = Clusterer.fit(vectors, ClustererConfig(clusters=CODES, n_init=1, max_iter=2), seed=0)
    table = CodeTable.build(rng.integers(0, CODES, (items, POSITIONS)).astype(np.int32), clusterer.sizes)
    recommender = Recommender(backbone, RecommenderConfig(alignment=False), CodeTree.from_table(table), None)
    config = StoreConfig(tokenizer=tokenizer.settings, recommender=recommender.settings)
    catalogue = Catalogue.from_frame(frame)
    return STORE(catalogue, config, tokenizer, clusterer, table, recommender, options)


def one(number: int) -> Catalogue:
    """A new item."""
    title = f"warm winter boots of brown leather, number {number}"
    return Catalogue.from_frame(pl.DataFrame({"item_id": [f"new-{number}"], "title": [title]}))


def recommended(store: STORE, row: int) -> bool:
    """Whether the search returns an item where it is the only one allowed."""
    history = Histories.from_arrays(["u"], np.array([0, 2]), np.array([1, row], np.int32))
    others = np.delete(np.arange(len(store.catalogue)), row)
    found = store.recommend_batch(history, 1, exclude=Exclusions(items=others))
    return bool(found.items[0, 0] == row)


def main() -> None:
    """Measure."""
    given = arguments(__doc__, items=(1_000_000, "items"))
    store, spent = build(given.items), []
    for number in range(4 * given.rounds + 2):
        item = one(number)
        started = time.perf_counter()
        store.add_items(item)
        spent.append(time.perf_counter() - started)
    spent = spent[2:]  # the first makes layers and the index of ids, once per process
    assert len(store.table) == given.items + 4 * given.rounds + 2
    found = all(recommended(store, len(store.table) - back) for back in (1, 2))
    started = time.perf_counter()
    tree = CodeTree.from_table(CodeTable.build(store.table.codes, store.table.sizes))
    built = time.perf_counter() - started
    same = all(np.array_equal(a, b) for a, b in zip(tree.codes, store.recommender.tree.source.codes, strict=True))
    text = int(content_ids(one(0), store.tokenizer.backbone, store.tokenizer.settings).lengths[0]) + POSITIONS
    layers = store.tokenizer.backbone.base.layers
    weights = sum(p.numel() for name, p in layers.named_parameters() if "proj.weight" in name or "base_layer" in name)
    reading = 2 * weights * text / layers_rate(layers, text)
    line = row(
        f"adding one item to {given.items:,}", float(np.median(spent)), None, bound=reading, goal=0.15,
        counted=f"reading its {text} tokens alone; building table and tree anew takes {built:.2f} s more",
        same=f"recommended afterwards: {found}; tree equals the one built anew: {same}", seconds=spent,
        slowest=max(spent), built=built,
    )  # fmt: skip
    write("cold_start", given, [line])


if __name__ == "__main__":
    main()
