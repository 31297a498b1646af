"""What other programs can use of a trained STORE: a table of codes, and a model that transformers generates with."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from storerec.codes import CodeTable, CodeTree
from storerec.data.places import written
from storerec.errors import BundleError, ConfigError
from storerec.llm.adapters import merge_into
from storerec.llm.layers import depth, shorten
from storerec.llm.quiet import quiet_transformers
from storerec.pipeline.store import STORE
from storerec.recommender import Recommender
from storerec.recommender.processor import CodeTreeProcessor
from storerec.storage import map_arrays, save_arrays, write_json

_RECORD, _CODES = "storerec.json", "codes.safetensors"


def export_codes(catalogue_ids: pl.Series, codes: np.ndarray, place: Path | str) -> None:
    """Write ``item_id`` and ``codes`` (a list of integers) of every item as Parquet, in catalogue order.

    ``place`` is a file or a URL. Raises DataError where a URL cannot be written to.
    """
    frame = pl.DataFrame({"item_id": catalogue_ids, "codes": codes}).with_columns(
        pl.col("codes").cast(pl.List(pl.Int32))
    )
    with written(place) as temporary:
        frame.write_parquet(temporary)


def export_model(store: STORE, folder: Path) -> None:
    """Write a model of plain transformers, its tokenizer, and what :func:`load_processor` reads, into a new folder.

    Adapters are merged. Every code is a word of the vocabulary, ``<code 1: 17>`` the 18th code of the first position;
    where the recommender reads a history as one token per item, so is every item, ``<item ID>``. A prompt is the
    instruction (``instruction`` in ``storerec.json``) and the history's words behind it.

    Raises
    ------
    ConfigError: the recommender adds an item's own vector to its last code, which no word can stand for, or the STORE
        was loaded for inference only.
    BundleError: ``folder`` is there already.
    """
    model = store.recommender
    if model.settings.item_rows and model.settings.history == "codes":
        raise ConfigError(
            "items with rows of their own in histories of codes: no word of a vocabulary stands for these"
        )
    if not hasattr(model.backbone.model, "save_pretrained"):
        raise ConfigError("this STORE was loaded for inference only; load it with `for_inference=False`")
    if folder.exists():
        raise BundleError(f"{folder}: exists already; give another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.new-"))
    try:
        _fill(store, fresh)
        fresh.chmod(0o755)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def load_processor(folder: Path | str, prompt_tokens: int) -> CodeTreeProcessor:
    """The logits processor of an exported model, for prompts of ``prompt_tokens``; BundleError where it lacks."""
    folder = Path(folder)
    record = _record(folder)
    words = record["first_code"], record["text_words"]
    return CodeTreeProcessor(_tree(folder), *words, prompt_tokens, record["normaliser"])


def items_of(folder: Path | str, words: np.ndarray) -> list[list[str]]:
    """Ids of the items of each row of generated tokens (rows, positions): several where items share codes.

    A row that is no item's, as ``generate`` fills up its beams where the tree has fewer, gives an empty list.
    """
    folder = Path(folder)
    record, table = _record(folder), _table(folder)
    first = record["first_code"] + np.concatenate([[0], np.cumsum(table.sizes)[:-1]])
    leaves = {tuple(codes): leaf for leaf, codes in enumerate(table.tuples.tolist())}
    found = [leaves.get(tuple(codes)) for codes in (words - first).tolist()]
    return [[] if leaf is None else [record["items"][row] for row in table.bucket(leaf).tolist()] for leaf in found]


def _fill(store: STORE, folder: Path) -> None:
    model, tokenizer = store.recommender, copy.deepcopy(store.recommender.backbone.tokenizer)
    first = len(tokenizer)  # rows of the embeddings beyond it, which some models have, are nobody's
    words = [f"<code {position + 1}: {code}>" for position, size in enumerate(model.sizes) for code in range(size)]
    if model.settings.history == "items":
        words += [f"<item {item}>" for item in store.catalogue.ids]
    if tokenizer.add_tokens(words) != len(words):
        raise ConfigError("the language model's vocabulary has words like <code 1: 0> already; export from another one")
    whole = _merged(model, first)
    with quiet_transformers():
        whole.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    save_arrays(folder / _CODES, store.table.arrays())
    write_json(
        folder / _RECORD,
        {
            "instruction": model.settings.prompts.sequence,
            "history": model.settings.history,
            "normaliser": model.settings.normaliser,
            "first_code": first,
            "text_words": min(first, len(model.backbone.word_embeddings.weight)),
            "items": store.catalogue.ids.to_list(),
        },
    )


@torch.no_grad()
def _merged(model: Recommender, first: int) -> Any:
    """The whole causal model with codes, and items where histories have them, as words from ``first`` on."""
    backbone = model.backbone
    shared = backbone.word_embeddings
    whole = copy.copy(backbone.model)
    whole.__dict__["_modules"] = dict(backbone.model._modules)
    base = copy.deepcopy(model.base, {id(shared): shared})
    merge_into(base, model.adapters)
    setattr(whole, whole.base_model_prefix, base)
    whole.config = copy.deepcopy(backbone.model.config)
    shorten(whole.config, depth(base))
    if hasattr(whole.config, "quantization_config"):  # that of a GGUF, whose weights are float32 here
        del whole.config.quantization_config
    text = backbone.model.get_output_embeddings().weight
    # a tokenizer may know more words than the embeddings have rows for
    none = shared.weight.new_zeros(max(0, first - len(shared.weight)), backbone.width)
    inputs = [shared.weight[:first], none, model.code_inputs]
    outputs = [text[:first], none, model.code_outputs]
    if model.settings.history == "items":
        everything = torch.arange(len(model.tree.item_codes), device=backbone.device)
        inputs.append(model.history_tokens(everything[:, None])[:, 0])  # (items, width)
        outputs.append(torch.zeros_like(inputs[-1]))  # never generated
    rows = torch.cat(inputs)
    head = torch.nn.Linear(rows.shape[1], len(rows), bias=False)
    head.weight = torch.nn.Parameter(torch.cat(outputs))
    base_model: Any = base
    base_model.set_input_embeddings(torch.nn.Embedding.from_pretrained(rows))
    whole.config.tie_word_embeddings = False
    whole.config.vocab_size = len(rows)
    base_model.config = whole.config
    whole.set_output_embeddings(head)
    return whole


def _record(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise BundleError(f"{folder / _RECORD}: cannot be read; {folder} is no exported model") from None


def _table(folder: Path) -> CodeTable:
    return CodeTable.from_arrays(map_arrays(folder / _CODES))


def _tree(folder: Path) -> CodeTree:
    return CodeTree.from_table(_table(folder))
