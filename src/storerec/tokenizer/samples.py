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

    def named(self, config: TokenizerConfig) -> TokenizerConfig:
        """``config`` with the content's names written out, so that it reads the same attributes of any later frame."""
        return config.model_copy(update={"content": self.content})


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
        return cls(content_ids(catalogue, backbone, config), _take(Ragged.joined(answers), order), len(answers))


def content_ids(catalogue: Catalogue, backbone: Backbone, config: TokenizerConfig) -> Ragged:
    """Token ids of the content blocks: ``name: text; name: text`` over the non-empty content attributes."""
    names = check_content(catalogue, config)
    parts = [pl.when(pl.col(name).str.len_bytes() > 0).then(pl.lit(f"{name}: ") + pl.col(name)) for name in names]
    texts = catalogue.frame.select(pl.concat_str(parts, separator="; ", ignore_nulls=True)).to_series()
    # an item without any text still needs one token to be encoded from
    return backbone.encode(
        texts.replace("", "unknown item").to_list(), max_tokens=config.max_content_tokens, begin=True
    )


def check_content(catalogue: Catalogue, config: TokenizerConfig) -> tuple[str, ...]:
    """Names of the content attributes, all of which ``catalogue`` has; raises ConfigError for one it lacks.

    Attributes that are only generated need not be there: encoding does not read them.
    """
    names = config.content or tuple(name for name in catalogue.attributes if name not in config.generate)
    missing = [name for name in names if name not in catalogue.attributes]
    if missing:
        raise ConfigError(
            f"the items lack the attribute '{missing[0]}', which the tokenizer reads "
            f"(they have: {', '.join(catalogue.attributes)})"
        )
    return names


def _answers(texts: pl.Series, backbone: Backbone, limit: int) -> Ragged:
    """The task block's targets: text tokens, then an end token where the text was not cut; empty for empty text."""
    ids = backbone.encode(texts.to_list(), max_tokens=limit + 1)  # one more tells which are cut
    flat, lengths = ids.flat.copy(), ids.lengths
    # the last of limit + 1 tokens falls away; the others get their end behind them
    cut, whole = lengths > limit, (lengths > 0) & (lengths <= limit)
    keep = np.ones(len(flat), bool)
    keep[ids.offsets[1:][cut] - 1] = False
    offsets = np.concatenate([[0], np.cumsum(lengths - cut)])
    flat = np.insert(flat[keep], offsets[1:][whole], backbone.end_id)
    return Ragged(flat, np.concatenate([[0], np.cumsum(lengths - cut + whole)]))


def _take(lists: Ragged, order: np.ndarray) -> Ragged:
    """Reorder lists."""
    lengths = lists.lengths[order]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    places = np.arange(int(offsets[-1])) + np.repeat(lists.offsets[order] - offsets[:-1], lengths)
    return Ragged(lists.flat[places], offsets)
