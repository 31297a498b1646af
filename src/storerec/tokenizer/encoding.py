"""Encoding a catalogue: dense tokens of every item, chunk by chunk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.llm.backbone import pad_ids
from storerec.llm.batching import token_batches
from storerec.llm.inference import InferenceLayers, inference_layers
from storerec.llm.precision import pick_dtype
from storerec.llm.progress import Progress
from storerec.tokenizer.config import TokenizerConfig
from storerec.tokenizer.dense_files import DenseFiles
from storerec.tokenizer.model import ADAPTER, DenseTokenizer
from storerec.tokenizer.samples import content_ids

_CPU_TOKENS = 512
"""Most tokens of a batch on a CPU: what a layer makes of more does not stay in its caches. 120 items took 12.9 s at
4,096 and 8.7 at 1,024 or 512 (one core, SmolLM2-135M); on two cores with AVX2 6.9 at 1,024 and 6.7 at 512."""


def encode_items(
    model: DenseTokenizer,
    catalogue: Catalogue,
    options: RunOptions,
    progress: Progress,
    *,
    folder: Path | None = None,
    layers: InferenceLayers | None = None,
) -> NDArray[np.float32]:
    """Dense tokens of every item: (items, v, width) float32, in catalogue order.

    The catalogue is cut into chunks of ``encode_chunk`` items, whose vectors do not depend on other chunks. With
    ``folder`` each chunk is kept there as it is made; until :func:`drop_encoded` a call goes on with those that are
    missing, after a kill too, if text, weights and arithmetic are the same. ``layers`` are those of
    :func:`encoding_layers`, which takes a second: who encodes again and again makes them once.
    """
    layers = layers or encoding_layers(model, options)
    size, shape = model.settings.encode_chunk, encoded_shape(model, len(catalogue))
    parts = [slice(start, start + size) for start in range(0, len(catalogue), size)]
    kept = None
    if folder is not None:
        weights, text = _weights_digest(model), _text_digest(catalogue)
        identity = encoding_identity(model.settings, options, model.backbone.device.type, weights, text)
        kept = DenseFiles.begin(folder, identity, shape, size)
    result = np.empty(shape, np.float32)
    missing = range(len(parts)) if kept is None else kept.missing()
    bar = progress.start("encoding items", len(catalogue), unit="item")
    for number, part in enumerate(parts):
        if kept is not None and number not in missing:
            result[part] = kept.read(number)
        else:
            result[part] = encode_chunk(model, Catalogue(catalogue.frame[part], catalogue.title_attribute), layers)
            if kept is not None:
                kept.write(number, result[part])
        progress.advance(bar, len(result[part]))
    progress.finish(bar)
    return result


@torch.no_grad()
def encode_chunk(model: DenseTokenizer, items: Catalogue, layers: InferenceLayers) -> NDArray[np.float32]:
    """Dense tokens (items, v, width) of the items of one chunk.

    Batches hold about ``encode_tokens`` text tokens of items of near-equal length. The same items give the same numbers
    on the same kind of processor: whose batch an item is in depends on its chunk alone.
    """
    if model.training:  # a walk through thousands of modules, 50 ms
        model.eval()
    device = model.backbone.device
    content = content_ids(items, model.backbone, model.settings)
    result = np.empty(encoded_shape(model, len(items)), np.float32)
    for rows in token_batches(content, _batch_tokens(model)):
        result[rows] = model.dense(*pad_ids(content, rows, device), layers=layers).float().cpu().numpy()
    return result


def encoded_shape(model: DenseTokenizer, items: int) -> tuple[int, int, int]:
    """Shape (items, v, width) of the dense tokens of so many items."""
    return items, model.settings.dense_tokens, model.backbone.width


def encoding_layers(model: DenseTokenizer, options: RunOptions) -> InferenceLayers:
    """The layers that encode, with the model's weights as they are now."""
    dtype = pick_dtype(options.inference_dtype, model.backbone.device)
    return inference_layers(model.base, model.backbone.word_embeddings, [ADAPTER], dtype, fused=options.fused)


def encoding_identity(settings: TokenizerConfig, options: RunOptions, device: str, weights: str, text: str) -> str:
    """Digest of all that decides dense tokens; ``weights`` says which tokenizer's, ``text`` of which items.

    ``device`` is the type of the one that encodes. Of processors the model is not in it: a cluster's workers are taken
    to be of one kind.
    """
    dtype = pick_dtype(options.inference_dtype, torch.device(device))
    how = f"{device} {dtype} {options.dtype} {options.fused} {settings.encode_tokens}"
    return hashlib.sha256(f"{how} {settings.encode_chunk} {weights} {text}".encode()).hexdigest()


def drop_encoded(folder: Path) -> None:
    """Delete what :func:`encode_items` keeps in ``folder``, once its result stands elsewhere."""
    DenseFiles.begin(folder, "", (0, 0, 0), 1).drop()


def _batch_tokens(model: DenseTokenizer) -> int:
    most = model.settings.encode_tokens
    return min(most, _CPU_TOKENS) if model.backbone.device.type == "cpu" else most


def _weights_digest(model: DenseTokenizer) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _text_digest(catalogue: Catalogue) -> str:
    digest = hashlib.sha256()
    for name in catalogue.frame.columns:
        digest.update(name.encode() + b"\0" + "\0".join(catalogue.frame[name].to_list()).encode())
    return digest.hexdigest()
