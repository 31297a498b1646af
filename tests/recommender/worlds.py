"""A small catalogue with random codes and histories, and a recommender over it with random weights."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch

from storerec.codes import CodeTable, CodeTree
from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.llm.backbone import Backbone
from storerec.recommender import Recommender, RecommenderConfig
from storerec.tokenizer import DenseTokenizer, TokenizerConfig

SIZES = (5, 4, 6)


@dataclass
class World:
    backbone: Backbone
    catalogue: Catalogue
    histories: Histories
    table: CodeTable
    model: Recommender


def catalogue(items: int) -> Catalogue:
    words = ["red", "green", "blue", "old", "new", "big"]
    rng = np.random.default_rng(3)
    titles = [" ".join(rng.choice(words, 3)) + f" {i}" for i in range(items)]
    return Catalogue.from_frame(pl.DataFrame({"item_id": [f"i{i}" for i in range(items)], "title": titles}))


def histories(items: int, users: int, *, longest: int = 7, seed: int = 0) -> Histories:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, users)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Histories.from_arrays(
        [f"u{u}" for u in range(users)], offsets, rng.integers(0, items, offsets[-1]).astype(np.int32)
    )


def make(backbone: Backbone, *, items: int = 40, users: int = 5, policy: str = "bucket", **changes) -> World:
    rng = np.random.default_rng(1)
    codes = np.stack([rng.integers(0, size, items) for size in SIZES], axis=1).astype(np.int32)
    distances = rng.random((items, len(SIZES), max(SIZES))).astype(np.float32)
    table = CodeTable.build(codes, SIZES, policy=policy, distances=distances, counts=rng.integers(0, 9, items))
    DenseTokenizer(backbone, TokenizerConfig(dense_tokens=3, lora={"rank": 2}), 1)  # its adapter stands under ours
    means = [rng.standard_normal((size, backbone.width)) for size in SIZES]
    config = RecommenderConfig(max_history=5, lora={"rank": 4}, output_scale=1.0, **changes)
    model = Recommender(backbone, config, CodeTree.from_table(table), means)
    with torch.no_grad():
        for name, parameter in model.trained().items():
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
            parameter.add_(noise.to(parameter) * (0.2 if "lora" in name else 0.3))
    model.requires_grad_(False).eval()
    return World(backbone, catalogue(items), histories(items, users), table, model)


def exact_scores(world: World, histories: Histories, normaliser: str) -> np.ndarray:
    """(users, items) log-probability of every item by teacher forcing, item after item: no search, no cache."""
    model, table = world.model, world.table
    model.use_adapters()
    instruction = world.backbone.encode([model.settings.prompts.sequence], max_tokens=999, begin=True).flat
    n = len(table)
    result = np.empty((len(histories), n))
    everything = torch.arange(n)
    for user in range(len(histories)):
        past = torch.as_tensor(histories.sequence(user)[-model.settings.max_history :].astype(np.int64))
        rows = torch.cat([past.expand(n, -1), everything[:, None]], dim=1)  # (items, history + 1)
        codes = model.tree.item_codes[rows]
        context = torch.as_tensor(instruction).expand(n, -1)
        hidden = model.code_hidden(context, torch.full((n,), len(instruction)), rows)[
            :, -1
        ]  # (items, positions, width)
        total = torch.zeros(n, dtype=torch.float64)
        for position in range(codes.shape[-1]):
            logits = model.logits(hidden[:, position], position).double()
            if normaliser == "children":
                children = model.tree.children(position, model.tree.node_of(position, everything))
                logits = logits.masked_fill(children < 0, -torch.inf)
            norm = logits.logsumexp(-1)
            if normaliser == "vocabulary":
                norm = model.vocabulary_logsumexp(hidden[:, position]).double()
            total += logits.gather(1, codes[:, -1, position, None])[:, 0] - norm
        result[user] = total.numpy() + table.shares
    return result
