"""Encoding a catalogue: dense tokens of every item, kept on disk as they are made."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch

from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.llm.backbone import pad_ids
from storerec.llm.batching import Ragged, token_batches
from storerec.llm.inference import InferenceLayers, inference_layers
from storerec.llm.precision import pick_dtype
from storerec.llm.progress import Progress
from storerec.storage import write_json
from storerec.tokenizer.model import ADAPTER, DenseTokenizer
from storerec.tokenizer.samples import content_ids

_KEEP_SECONDS = 20.0

_CPU_TOKENS = 512
"""Most tokens of a batch on a CPU: what a layer makes of more does not stay in its caches. 120 items took 12.9 s at
4,096 and 8.7 at 1,024 or 512 (one core, SmolLM2-135M); on two cores with AVX2 6.9 at 1,024 and 6.7 at 512."""


@torch.no_grad()
def encode_items(
    model: DenseTokenizer,
    catalogue: Catalogue,
    options: RunOptions,
    progress: Progress,
    *,
    folder: Path | None = None,
    layers: InferenceLayers | None = None,
) -> np.ndarray:
    """Dense tokens of every item: (items, v, width) float32, in catalogue order.

    Batches hold about ``encode_tokens`` text tokens of items of near-equal length. With ``folder`` the result is a file
    there, mapped and read-only, so that memory does not grow with the catalogue's vectors; until :func:`drop_encoded` a
    call goes on from it, after a kill too, if text, weights and arithmetic are the same. ``layers`` are those of
    :func:`encoding_layers`, which takes a second: who encodes again and again makes them once.
    """
    if model.training:  # a walk through thousands of modules, 50 ms
        model.eval()
    device = model.backbone.device
    content = content_ids(catalogue, model.backbone, model.settings)
    tokens = min(model.settings.encode_tokens, _CPU_TOKENS) if device.type == "cpu" else model.settings.encode_tokens
    batches = token_batches(content, tokens)
    dtype = pick_dtype(options.inference_dtype, device)
    shape = (len(content), model.settings.dense_tokens, model.backbone.width)
    kept = None if folder is None else Partial(folder, shape, _identity(model, content, dtype, tokens))
    result, first = np.empty(shape if kept is None else 0, np.float32), kept.batches if kept else 0
    sizes = [len(rows) for rows in batches]
    bar = progress.start("encoding items", len(content), done=sum(sizes[:first]), unit="item")
    layers = layers or encoding_layers(model, options)
    for number, rows in enumerate(batches[first:], start=first + 1):
        vectors = model.dense(*pad_ids(content, rows, device), layers=layers).float().cpu().numpy()
        if kept is None:
            result[rows] = vectors
        else:
            kept.add(rows, vectors, number)
        progress.advance(bar, len(rows))
    progress.finish(bar)
    return result if kept is None else kept.finished(len(batches))


def encoding_layers(model: DenseTokenizer, options: RunOptions) -> InferenceLayers:
    """The layers that encode, with the model's weights as they are now."""
    dtype = pick_dtype(options.inference_dtype, model.backbone.device)
    return inference_layers(model.base, model.backbone.word_embeddings, [ADAPTER], dtype, fused=options.fused)


def _identity(model: DenseTokenizer, content: Ragged, dtype: torch.dtype, tokens: int) -> str:
    """Digest of all that decides the result and its batches."""
    digest = hashlib.sha256(f"{dtype} {tokens}".encode())
    for array in (content.offsets, content.flat):
        digest.update(np.ascontiguousarray(array).tobytes())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class Partial:
    """Vectors made so far, in a file, and the number of batches they hold.

    They are written, not mapped, so that memory does not grow with the catalogue. The number is written after the
    vectors it counts: a kill between the two costs batches, not truth.

    Attributes
    ----------
    batches: how many are whole.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], identity: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.place, self.count, self.identity = folder / "encoded.f32", folder / "encoded.json", identity
        self.shape, self._row = shape, 4 * math.prod(shape[1:])  # bytes of an item
        self.batches, self._kept = self._found(), time.monotonic()
        if not self.batches:  # a number left by another encoding would count batches that are not there
            self.count.unlink(missing_ok=True)
        self._file = self.place.open("r+b" if self.batches else "w+b", buffering=0)
        self._file.truncate(shape[0] * self._row)

    def _found(self) -> int:
        if not (self.place.is_file() and self.count.is_file()):
            return 0
        found = json.loads(self.count.read_text(encoding="utf-8"))
        return int(found["batches"]) if found["identity"] == self.identity else 0

    def add(self, rows: np.ndarray, vectors: np.ndarray, batches: int) -> None:
        """Write the vectors of some items, and note now and then that so many batches are whole."""
        for row, vector in zip(rows.tolist(), np.ascontiguousarray(vectors, np.float32), strict=True):
            self._file.seek(row * self._row)
            self._file.write(vector.data)
        if time.monotonic() - self._kept >= _KEEP_SECONDS:
            self._note(batches)

    def _note(self, batches: int) -> None:
        os.fsync(self._file.fileno())
        write_json(self.count, {"identity": self.identity, "batches": batches})
        self.batches, self._kept = batches, time.monotonic()

    def finished(self, batches: int) -> np.ndarray:
        """All vectors, read-only: the file, mapped. It stays until :func:`drop_encoded`."""
        self._note(batches)
        self._file.close()
        return np.memmap(self.place, np.float32, "r", shape=self.shape)


def drop_encoded(folder: Path) -> None:
    """Delete what :func:`encode_items` keeps in ``folder``, once its result stands elsewhere."""
    for name in ("encoded.json", "encoded.f32"):
        with contextlib.suppress(OSError):  # Windows keeps files that are mapped; the next encoding writes over them
            (folder / name).unlink(missing_ok=True)
