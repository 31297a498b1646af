"""Encoding a catalogue against the forward bound, and against padding items in their own order.

    python -m benchmarks.encoding --out runs/bench

Items of 4 to 96 tokens, through SmolLM2-135M with the tokenizer's adapter. Ours sorts items by length and cuts batches
by tokens, on merged layers; the other takes 32 items at a time as they come, through the adapter, as training does. The
bound is what the layers' products alone would take for the items' own tokens, at the rate that they reach here.
Then memory: 5,000 and 50,000 items through the first of the layers alone (all 30 would take half an hour) into files.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import torch

from benchmarks.harness import arguments, curve, in_turn, layers_rate, row, write
from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.llm.adapters import activate
from storerec.llm.backbone import Backbone, BackboneConfig, pad_ids
from storerec.llm.layers import first_layers
from storerec.llm.progress import Progress
from storerec.tokenizer import (
    ADAPTER,
    DenseFiles,
    DenseTokenizer,
    TokenizerConfig,
    encode_chunk,
    encode_items,
    encoded_shape,
    encoding_layers,
)
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


class Anonymous(threading.Thread):
    """Largest memory of this process that no file stands behind, in GiB, while the block runs (Linux)."""

    def __enter__(self) -> Self:
        self.peak, self.over = 0.0, threading.Event()
        self.start()
        return self

    def run(self) -> None:
        """Look every 20 ms."""
        while not self.over.wait(0.02):
            text = Path("/proc/self/status").read_text(encoding="utf-8")
            self.peak = max(self.peak, int(text.partition("RssAnon:")[2].split()[0]) / 2**20)

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()


def stream(items: int) -> dict[str, float]:
    """Encode ``items`` through one layer into files, as a run's chunks are: seconds, and GiB of memory at most."""
    options = RunOptions(device="cpu")
    backbone = Backbone.load(BackboneConfig(), options)
    base = first_layers(backbone.base, 1)
    model = DenseTokenizer(backbone, TokenizerConfig(content=("title",)), 1).requires_grad_(False).eval()
    model.base = base
    some = catalogue(items)
    with tempfile.TemporaryDirectory() as folder, Anonymous() as memory:
        started = time.perf_counter()
        shape, layers = encoded_shape(model, items), encoding_layers(model, options)
        files = DenseFiles.begin(Path(folder), "", shape, model.settings.encode_chunk)
        for number in files.missing():
            chunk = Catalogue(some.frame[files.part(number)], some.title_attribute)
            files.write(number, encode_chunk(model, chunk, layers))
        files.finish()
        spent = time.perf_counter() - started
    return {"items": items, "seconds": spent, "peak_gib": memory.peak, "result_gib": 4 * math.prod(shape) / 2**30}


def streamed(items: int) -> dict[str, float]:
    """:func:`stream` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.encoding", "stream", str(items)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def memory_row(few: int, many: int) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Peak memory at ``few`` and ``many`` items, as a row of a ratio: 1 is constant."""
    sizes = [streamed(few), streamed(many)]
    low, high = sizes
    same = f"{high['peak_gib']:.2f} GiB at most, where the vectors alone are {high['result_gib']:.2f}"
    line = row(
        f"memory of encoding {many:,} items, one layer, GiB", high["peak_gib"], low["peak_gib"], bound=1.0, goal=0.9,
        counted=f"that of {few:,} items; memory that no file stands behind", same=same, unit="GiB",
    )  # fmt: skip
    return line, sizes


def main() -> None:
    """Measure."""
    if len(sys.argv) > 1 and sys.argv[1] == "stream":
        print(json.dumps(stream(int(sys.argv[2]))))
        return
    given = arguments(__doc__, items=(240, "items"), many=(50_000, "items of the largest stream"))
    options = RunOptions(device="cpu")
    backbone = Backbone.load(BackboneConfig(), options)
    plain_layers = backbone.base.layers
    maps = sum(one.in_features * one.out_features for one in plain_layers.modules() if isinstance(one, torch.nn.Linear))
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
    rates: list[float] = []  # taken between the others: the machine's own rate changes
    ways = {"ours": ours, "plain": plain, "products": lambda: rates.append(layers_rate(plain_layers, 4096, rounds=1))}
    spent = in_turn(ways, min(given.rounds, 2), warm=False)
    rate = float(np.median(rates))
    least = 2 * maps * tokens / rate
    reached = least / spent["ours"]
    line = row(
        f"encoding {given.items:,} items of {tokens:,} tokens", spent["ours"], spent["plain"],
        bound=spent["plain"] / least,
        counted=f"the layers' products for these tokens alone, at {rate / 1e9:.0f} GFLOP/s measured at their shapes",
        goal=0.9 * spent["plain"] / least, same=f"largest difference {apart:.1e}; {100 * reached:.0f}% of the bound",
        tokens_per_second=tokens / spent["ours"], share_of_bound=reached,
    )  # fmt: skip
    memory, sizes = memory_row(given.many // 10, given.many)
    lines = {"peak": [one["peak_gib"] for one in sizes], "the_vectors": [one["result_gib"] for one in sizes]}
    grows = curve("memory of encoding", "items", "GiB", [one["items"] for one in sizes], **lines)
    write("encoding", given, [line, memory], sizes=sizes, curves=[grows])


if __name__ == "__main__":
    main()
