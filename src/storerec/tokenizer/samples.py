"""An item catalogue as token arrays: content blocks and task answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from storerec.data.catalogue import Catalogue
from storerec.errors import ConfigError
from storerec.llm.backbone import Backbone
from storerec.llm.batching import Ragged
from storerec.tokenizer.config import TokenizerConfig


@dataclass(frozen=True)
class Attributes:
    """Which attributes of a catalogue play which part.

    Attributes
    ----------
    content: attributes of the content block, in order.
    tasks: attributes of the m tasks: reconstruction first, then generation.
    """

    content: tuple[str, ...]
    tasks: tuple[str, ...]

    @classmethod
    def choose(cls, attributes: tuple[str, ...], config: TokenizerConfig) -> Attributes:
        """Apply ``config`` to a catalogue's ``attributes``; raises ConfigError for names it does not have."""
        content = config.content or tuple(name for name in attributes if name not in config.generate)
        reconstruct = content if config.reconstruct is None else config.reconstruct
        unknown = [name for name in (*content, *config.generate, *reconstruct) if name not in attributes]
        if unknown:
            raise ConfigError(
                f"tokenizer: no attribute '{unknown[0]}' in the items (they have: {', '.join(attributes)})"
            )
        outside = [name for name in reconstruct if name not in content]
        if outside:
            raise ConfigError(f"tokenizer.reconstruct: '{outside[0]}' is not in the content; put it under generate")
        if not content:
            raise ConfigError("tokenizer.content: no attribute is left for the content block")
        return cls(tuple(content), (*reconstruct, *config.generate))


@dataclass(frozen=True)
class TokenizerSamples:
    """Token ids of a catalogue.

    Attributes
    ----------
    content: one list per item, ``name: text`` of the content attributes.
    answers: one list per item and task (item-major), the attribute's text and an end token; empty where the item
        lacks the attribute (that task then has no sample).
    tasks: number of tasks, m.
    """

    content: Ragged
    answers: Ragged
    tasks: int

    @classmethod
    def build(cls, catalogue: Catalogue, backbone: Backbone, config: TokenizerConfig) -> TokenizerSamples:
        """Tokenize ``catalogue``."""
        parts = Attributes.choose(catalogue.attributes, config)
        answers = [_answers(catalogue.attribute(name), backbone, config.max_task_tokens) for name in parts.tasks]
        order = np.arange(len(catalogue) * len(answers)).reshape(len(answers), len(catalogue)).T.ravel()
        return cls(content_ids(catalogue, backbone, config), _take(_join(answers), order), len(answers))


def content_ids(catalogue: Catalogue, backbone: Backbone, config: TokenizerConfig) -> Ragged:
    """Token ids of the content blocks: ``name: text; name: text`` over the non-empty content attributes."""
    names = Attributes.choose(catalogue.attributes, config.model_copy(update={"generate": ()})).content
    if config.content is None:
        names = tuple(name for name in names if name not in config.generate)
    parts = [pl.when(pl.col(name).str.len_bytes() > 0).then(pl.lit(f"{name}: ") + pl.col(name)) for name in names]
    texts = catalogue.frame.select(pl.concat_str(parts, separator="; ", ignore_nulls=True)).to_series()
    # an item without any text still needs one token to be encoded from
    return backbone.encode(
        texts.replace("", "unknown item").to_list(), max_tokens=config.max_content_tokens, begin=True
    )


def _answers(texts: pl.Series, backbone: Backbone, limit: int) -> Ragged:
    """The task block's targets: text tokens, then an end token where the text was not cut; empty for empty text."""
    ids = backbone.encode(texts.to_list(), max_tokens=limit)
    ends = (ids.lengths > 0) & (ids.lengths < limit)
    flat = np.insert(ids.flat, ids.offsets[1:][ends], backbone.end_id)
    return Ragged(flat, np.concatenate([[0], np.cumsum(ids.lengths + ends)]))


def _join(parts: list[Ragged]) -> Ragged:
    lengths = np.concatenate([part.lengths for part in parts])
    return Ragged(np.concatenate([part.flat for part in parts]), np.concatenate([[0], np.cumsum(lengths)]))


def _take(lists: Ragged, order: np.ndarray) -> Ragged:
    """Reorder lists."""
    lengths = lists.lengths[order]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    places = np.arange(int(offsets[-1])) + np.repeat(lists.offsets[order] - offsets[:-1], lengths)
    return Ragged(lists.flat[places], offsets)
