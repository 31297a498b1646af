"""Encoding a catalogue against the forward bound, and against padding items in their own order.

    python -m benchmarks.encoding --out runs/bench

Items of 4 to 96 tokens, through SmolLM2-135M with the tokenizer's adapter. Ours sorts items by length and cuts batches
by tokens, on merged layers; the other takes 32 items at a time as they come, through the adapter, as training does. The
bound is what the layers' products alone would take for the items' own tokens, at the rate that they reach here.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import torch

from benchmarks.harness import arguments, in_turn, layers_rate, row, write
from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.llm.adapters import activate
from storerec.llm.backbone import Backbone, BackboneConfig, pad_ids
from storerec.llm.progress import Progress
from storerec.tokenizer import ADAPTER, DenseTokenizer, TokenizerConfig, encode_items
from storerec.tokenizer.samples import content_ids

WORDS = [
    "red",
    "blue",
    "old",
    "new",
    "shoe",
    "hat",
    "coat",
    "bag",
    "warm",
    "light",
    "small",
    "large",
    "good",
    "plain",
    "fast",
    "wide",
]


def catalogue(items: int) -> Catalogue:
    """Titles of 1 to 90 words, most of them short."""
    rng = np.random.default_rng(0)
    counts = np.minimum(1 + rng.exponential(18, items).astype(int), 90)
    titles = [" ".join(rng.choice(WORDS, count)) for count in counts]
    return Catalogue.from_frame(pl.DataFrame({"item_id": [str(i) for i in range(items)], "title": titles}))


def main() -> None:
    """Measure."""
    given = arguments(__doc__, items=(240, "items"))
    options = RunOptions(device="cpu")
    backbone = Backbone.load(BackboneConfig(), options)
    plain_layers = backbone.base.layers
    maps = sum(one.in_features * one.out_features for one in plain_layers.modules() if isinstance(one, torch.nn.Linear))
    rate = layers_rate(plain_layers, 4096)
    model = DenseTokenizer(backbone, TokenizerConfig(content=("title",)), 1).requires_grad_(False).eval()
    items = catalogue(given.items)
    content = content_ids(items, backbone, model.settings)
    tokens = int(content.lengths.sum()) + len(content) * model.settings.dense_tokens

    @torch.no_grad()
    def plain() -> np.ndarray:
        activate(model.base, [ADAPTER])
        rows = [np.arange(start, min(start + 32, len(items))) for start in range(0, len(items), 32)]
        return np.concatenate([model.dense(*pad_ids(content, some, backbone.device)).numpy() for some in rows])

    def ours() -> np.ndarray:
        return encode_items(model, items, options, Progress(enabled=False))

    apart = float(np.abs(ours() - plain()).max())
    spent = in_turn({"ours": ours, "plain": plain}, given.rounds, warm=False)
    least = 2 * maps * tokens / rate
    reached = least / spent["ours"]
    line = row(
        f"encoding {given.items:,} items of {tokens:,} tokens", spent["ours"], spent["plain"],
        bound=spent["plain"] / least,
        counted=f"the layers' products for these tokens alone, at {rate / 1e9:.0f} GFLOP/s measured at their shapes",
        goal=0.9 * spent["plain"] / least, same=f"largest difference {apart:.1e}; {100 * reached:.0f}% of the bound",
        tokens_per_second=tokens / spent["ours"], share_of_bound=reached,
    )  # fmt: skip
    write("encoding", given, [line])


if __name__ == "__main__":
    main()
