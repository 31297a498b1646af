"""Small folders in the raw formats of MIND and Yelp, a tiny encoder, and settings that train in seconds."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from storerec.comparison import ComparisonConfig
from storerec.comparison.config import merged
from storerec.config import RunOptions
from storerec.data.histories import Histories

WORDS = ("golf", "rates", "senate", "films")
OPTIONS = RunOptions(device="cpu", dtype="float32", progress=False)


def walks(users, items, *, seed=0):
    """Each user stays with one word's items and walks through them in order."""
    rng = np.random.default_rng(seed)
    for _ in range(users):
        word, start, length = rng.integers(len(WORDS)), rng.integers(items), rng.integers(4, 9)
        yield [int(word + len(WORDS) * ((start + t) % (items // len(WORDS)))) for t in range(length)]


def write_mind(folder: Path, users=30, items=24):
    news = [
        (f"N{i}", f"of {WORDS[i % 4]}", f"sub{i % 4}", f"{WORDS[i % 4]} {i}", f"on {WORDS[i % 4]}", "u", "[]", "[]")
        for i in range(items)
    ]
    (folder / "news.tsv").write_text("".join("\t".join(row) + "\n" for row in news), encoding="utf-8")
    rows = [
        (str(u), f"U{u}", "11/15/2019 8:55:22 AM", " ".join(f"N{i}" for i in walk), "N0-0 N1-1")
        for u, walk in enumerate(walks(users, items))
    ]
    (folder / "behaviors.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    return folder


def write_yelp(folder: Path, users=30, items=24):
    shops = [
        {"business_id": f"b{i}", "name": f"{WORDS[i % 4]} {i}", "city": "Tampa", "address": f"{i} Road", "state": "FL"}
        for i in range(items)
    ]
    reviews = [
        {"user_id": f"u{u}", "business_id": f"b{i}", "stars": 4.0, "text": "", "date": f"2020-01-{t + 1:02} 10:00:00"}
        for u, walk in enumerate(walks(users, items))
        for t, i in enumerate(walk)
    ]
    for name, rows in (("business", shops), ("review", reviews)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"yelp_academic_dataset_{name}.json").write_text(text)
    return folder


def write_encoder(folder: Path):
    """A random BERT whose tokens are words."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *map(str, range(40))]
    core = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    words = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )
    torch.manual_seed(3)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertModel(BertConfig(vocab_size=len(names), max_position_embeddings=64, **shape))
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def settings(backbone, encoder, *, steps=2):
    """Overrides that make every system train for ``steps`` steps."""
    phase = {"max_steps": steps, "learning_rate": 3e-3, "checkpoint_steps": steps}
    return {
        "store": {
            "backbone": {"name": str(backbone)},
            "split": {"test_users": 8, "validation_share": 0.2},
            "tokenizer": {
                "dense_tokens": 2,
                "max_content_tokens": 24,
                "max_task_tokens": 8,
                "lora": {"rank": 2},
                "batch_items": 8,
                "training": phase,
            },
            "clusterer": {"clusters": 6, "dims": 4, "n_init": 1},
            "recommender": {
                "max_history": 5,
                "layers": 1,
                "lora": {"rank": 2},
                "batch_size": 8,
                "alignment_tokens": 12,
                "history": "items",
                "item_rows": True,
                "item_rank": 4,
                "code_rank": 4,
                "item_start": "cooccurrence",
                "residual_dropout": 0.2,
                "code_share": 0.5,
                "joint": phase,
                "alone": phase,
            },
            "search": {"beam": 6},
            "evaluation": {"bootstrap_samples": 20, "ks": [1, 5, 20]},
        },
        "rqvae": {"levels": 2, "codes": 4, "latent": 4, "hidden": [8], "epochs": 2, "max_steps": 4},
        "encoder": {"name": str(encoder), "max_tokens": 24},
        "sasrec": {"width": 8, "max_history": 5, "training": phase},
        "transformer": {"layers": 1, "heads": 2, "head_width": 4, "width": 8, "feed_forward": 8, "training": phase},
    }


def config(preset, backbone, encoder, **more):
    values = merged(ComparisonConfig.preset(preset).model_dump(), settings(backbone, encoder))
    return ComparisonConfig.parse(merged(values, more))


def swapped(data, users):
    """The same data, the last item of each of ``users`` (ids) moved on to another item."""
    items, rows = data.histories.items.copy(), data.histories.rows(users)
    ends = data.histories.offsets[1:][rows] - 1
    items[ends] = (items[ends] + 1) % len(data.catalogue)
    return replace(data, histories=Histories.from_arrays(data.histories.user_ids, data.histories.offsets, items))
