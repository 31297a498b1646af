"""A small shop for tests: items of a few kinds, users who stay with a kind and walk through it in order."""

import numpy as np
import polars as pl

from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.pipeline import StoreConfig

KINDS = ("red shoes", "blue hats", "green coats")


def items(count: int = 24) -> pl.DataFrame:
    kinds = [KINDS[i % len(KINDS)] for i in range(count)]
    return pl.DataFrame(
        {
            "item_id": [f"item-{i}" for i in range(count)],
            "title": [f"{k} number {i}" for i, k in enumerate(kinds)],
            "kind": kinds,
        }
    )


def events(users: int = 30, count: int = 24, *, seed: int = 0) -> pl.DataFrame:
    """Each user walks through one kind's items in a circle: the next item is determined by the last."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        kind, start, length = rng.integers(len(KINDS)), rng.integers(8), rng.integers(4, 8)
        rows += [
            (f"user-{user}", f"item-{kind + len(KINDS) * ((start + t) % (count // len(KINDS)))}", 100 * t)
            for t in range(length)
        ]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


def data(users: int = 30, count: int = 24) -> tuple[Catalogue, Histories]:
    catalogue = Catalogue.from_frame(items(count))
    return catalogue, Histories.from_events(events(users, count), catalogue)


def config(backbone, **recommender) -> StoreConfig:
    """The smallest configuration that goes through every stage."""
    phase = {"epochs": 2, "learning_rate": 3e-3}
    settings = {"max_history": 6, "lora": {"rank": 4}, "batch_size": 8, "joint": phase, "alone": phase}
    return StoreConfig.parse(
        {
            "backbone": {"name": str(backbone)},
            "tokenizer": {
                "dense_tokens": 3,
                "lora": {"rank": 4},
                "batch_items": 8,
                "training": {"epochs": 2, "learning_rate": 3e-3},
            },
            "clusterer": {"clusters": 4, "dims": 8},
            "recommender": settings | recommender,
            "search": {"beam": 8},
            "evaluation": {"bootstrap_samples": 100},
        }
    )
