"""Worlds whose next item is known to be determined by text, or by the order of ids, and small systems by recipe."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from storerec.comparison import ComparisonConfig
from storerec.comparison.bench import Bench
from storerec.comparison.models import take_up
from storerec.comparison.stages import Stages
from storerec.comparison.trial import Trial
from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.data.splits import SplitConfig, split
from storerec.llm.progress import Progress
from storerec.llm.prompts import Prompts
from storerec.systems.base import Exclusions
from storerec.systems.registry import RECIPES

OPTIONS = RunOptions(device="cpu", dtype="float32", progress=False, seed=1)
SPLIT = SplitConfig(protocol="users", test_users=60, validation_share=0.1)
WORDS = ("red shoes", "blue hats", "green coats", "old lamps", "iron pans", "silk ties", "wool socks", "toy cars")
MEMBERS, COLD = 6, 2


@dataclass
class World:
    catalogue: Catalogue
    histories: Histories

    @property
    def test(self):
        return split(self.histories, SPLIT, 0).test

    def bench(self, folder, config):
        return Bench(
            Stages(folder), self.catalogue, self.histories, config, OPTIONS, Progress(enabled=False), "planted"
        )

    def lists(self, name, folder, config, k):
        """The test users' lists of a system made and trained by its recipe."""
        system = take_up(self.bench(folder, config), RECIPES[name], Trial())
        return system.recommend(self.test.histories, k, exclude=Exclusions()).items


def _histories(walks):
    users, length = walks.shape
    offsets = np.arange(users + 1, dtype=np.int64) * length
    return Histories.from_arrays([f"u{u:03}" for u in range(users)], offsets, walks.reshape(-1).astype(np.int32))


def text_world(users=300, length=8):
    """After an item of one word pair comes any item of the next pair: item i is of pair i % 8.

    The last ``COLD`` items of each pair are nobody's but test users' last ones, of whom two thirds have them.
    """
    rng = np.random.default_rng(0)
    kinds, items = len(WORDS), len(WORDS) * (MEMBERS + COLD)
    steps = rng.integers(kinds, size=(users, 1)) + np.arange(length)
    walks = steps % kinds + kinds * rng.integers(MEMBERS, size=steps.shape)
    walks = walks.astype(np.int32)
    drawn = _histories(walks).rows(split(_histories(walks), SPLIT, 0).test.histories.user_ids)
    cold = drawn[: 2 * len(drawn) // 3]
    walks[cold, -1] = walks[cold, -1] % kinds + kinds * (MEMBERS + rng.integers(COLD, size=len(cold)))
    frame = pl.DataFrame(
        {
            "item_id": [f"i{i}" for i in range(items)],
            "title": [f"{WORDS[i % kinds]} {i // kinds}" for i in range(items)],
        }
    )
    return World(Catalogue.from_frame(frame), _histories(walks))


def order_world(users=300, length=8, items=24):
    """Each item is followed by one other, by a permutation that its title says nothing of."""
    rng = np.random.default_rng(0)
    following = rng.permutation(items)  # titles are in the order of rows
    walks = np.empty((users, length), dtype=np.int32)
    walks[:, 0] = rng.integers(items, size=users)
    for step in range(1, length):
        walks[:, step] = following[walks[:, step - 1]]
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    titles = ["".join(rng.choice(letters, 8)) for _ in range(items)]
    frame = pl.DataFrame({"item_id": [f"i{i}" for i in range(items)], "title": titles})
    return World(Catalogue.from_frame(frame), _histories(walks))


def settings(backbone, *, policy="bucket", epochs=8.0, steps=None, **recommender):
    """Small parts that train whole, at rates that suit their size; for ``steps`` steps at most.

    There are as many codes per position as kinds in the world of texts: with more, a clusterer splits some kind, and
    its items are then alike in their first code only if they are in the same part.
    """
    phase = {"epochs": epochs, "max_steps": steps, "learning_rate": 3e-3, "checkpoint_steps": 1000}
    embedding = {"source": "language_model", "name": str(backbone), "max_tokens": 24}
    return ComparisonConfig.parse(
        {
            "store": {
                "backbone": {"name": str(backbone)},
                "split": SPLIT.model_dump(),
                "tokenizer": {
                    "dense_tokens": 2,
                    "lora": {"rank": 4},
                    "batch_items": 16,
                    "training": {"max_steps": steps or 20, "learning_rate": 3e-3, "checkpoint_steps": 1000},
                },
                "clusterer": {"clusters": len(WORDS), "dims": 8},
                "codes": {"policy": policy},
                "recommender": {
                    "max_history": 4,
                    "layers": 2,
                    "tuning": "full",
                    "batch_size": 16,
                    "alignment_tokens": 12,
                    "output_scale": 1.0,
                    "joint": phase | {"epochs": 1},
                    "alone": phase,
                    "prompts": Prompts.short().model_dump(),
                }
                | recommender,
                "search": {"beam": 20},
            },
            "rqvae": {
                "levels": 2,
                "codes": len(WORDS),
                "latent": 8,
                "hidden": [32],
                "epochs": 400,
                "max_steps": steps or 400,
            },
            "encoder": embedding,
            "sasrec": {
                "width": 32,
                "dropout": 0.0,
                "max_history": 4,
                "batch_size": 16,
                "training": phase | {"learning_rate": 5e-3, "epochs": epochs + 12},
            },
            "transformer": {
                "max_history": 4,
                "layers": 1,
                "heads": 2,
                "head_width": 16,
                "width": 32,
                "feed_forward": 64,
                "dropout": 0.0,
                "batch_size": 16,
                "training": phase | {"learning_rate": 5e-3, "epochs": epochs + 4},
            },
        }
    )
