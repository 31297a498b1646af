"""Catalogues and events of any size that look like a shop's, as folders of Parquet files, and a tiny language model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

_WORDS = np.array([f"{a}{b}" for a in ("ba", "ce", "di", "fo", "gu", "la", "me", "ni") for b in "bdfgklmnprst"])
_FILES = 8


def write_items(folder: Path, items: int, *, seed: int = 0) -> None:
    """``items`` rows of item_id, title (2 to 7 words, popular ones more often) and kind, in some files."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number, rows in enumerate(np.array_split(np.arange(items), _FILES)):
        words = _WORDS[(rng.beta(1, 3, (7, len(rows))) * len(_WORDS)).astype(int)]
        counts = rng.integers(2, 8, len(rows))
        columns = {f"w{i}": np.where(i < counts, words[i], "") for i in range(7)}
        frame = pl.DataFrame({"row": rows, "kind": rng.choice(_WORDS[:24], len(rows))} | columns)
        title = pl.concat_str([pl.col(name) for name in columns], separator=" ").str.strip_chars()
        frame = frame.select(pl.format("item-{}", "row").alias("item_id"), title.alias("title"), "kind")
        frame.write_parquet(folder / f"part-{number:03d}.parquet", row_group_size=1 << 17)


def write_events(folder: Path, users: int, items: int, events: int, *, seed: int = 1) -> None:
    """``events`` rows of user_id, item_id and timestamp, in no order of users or times, in some files.

    A user stays near a place of the catalogue and mostly steps to the next item, so that there is something to learn.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    home = rng.integers(0, items, users)
    for number, size in enumerate(len(part) for part in np.array_split(np.arange(events), max(_FILES, events >> 21))):
        user = rng.integers(0, users, size)
        time = rng.integers(0, 1_000_000, size)
        item = (home[user] + time // 100_000 + rng.geometric(0.5, size) - 1) % items
        frame = pl.DataFrame({"user": user, "item": item, "timestamp": time})
        frame = frame.select(
            pl.format("u{}", "user").alias("user_id"), pl.format("item-{}", "item").alias("item_id"), "timestamp"
        )
        frame.write_parquet(folder / f"part-{number:03d}.parquet", row_group_size=1 << 18)


def tiny_backbone(folder: Path) -> Path:
    """A Llama of two layers and width 32 with random weights, which knows the words of the titles."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<s>", "</s>", "<unk>", ":", ";", "title", "kind", *_WORDS.tolist()]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", unk_token="<unk>", pad_token="</s>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
