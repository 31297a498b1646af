"""Alignment of codes with text: samples in which one of the two follows from the other (docs/method.md, section 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.llm.backbone import Backbone
from storerec.llm.batching import Ragged
from storerec.recommender.config import AlignmentTask, RecommenderConfig

_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True)
class TextTask:
    """Samples of text, the codes of one item and, where codes are not what is asked for, more text.

    Attributes
    ----------
    contexts: tokens before the codes, a list per sample.
    items: (samples,) catalogue rows.
    answers: tokens after the codes, which are then the targets; None where the codes are.
    """

    contexts: Ragged
    items: np.ndarray
    answers: Ragged | None = None

    def __len__(self) -> int:
        return len(self.items)

    @property
    def lengths(self) -> np.ndarray:
        """(samples,) text tokens of each sample."""
        return self.contexts.lengths + (0 if self.answers is None else self.answers.lengths)


def alignment_samples(
    catalogue: Catalogue, histories: Histories, backbone: Backbone, config: RecommenderConfig
) -> tuple[TextTask, ...]:
    """Samples of the tasks that ``config`` names, in its order; ``histories`` are those of training."""
    made: dict[AlignmentTask, Callable[[], TextTask]] = {
        "text_to_codes": lambda: text_to_codes(catalogue, backbone, config),
        "codes_to_text": lambda: codes_to_text(catalogue, backbone, config),
        "titles_to_codes": lambda: titles_to_codes(catalogue, histories, backbone, config),
    }
    return tuple(made[name]() for name in config.alignment_tasks)


def text_to_codes(catalogue: Catalogue, backbone: Backbone, config: RecommenderConfig) -> TextTask:
    """An item's text to its codes (STORE, 3.3): instruction, text, and the question for the codes."""
    before, after = config.prompts.alignment_before, config.prompts.alignment_after
    question = backbone.encode([after], max_tokens=10_000)
    lists = backbone.encode(
        [f"{before} {text}".strip() for text in item_texts(catalogue)], max_tokens=config.alignment_tokens, begin=True
    )
    # the question is appended after the cut, so that no text is long enough to lose it
    return TextTask(_between(_NONE, lists, question.flat), np.arange(len(catalogue)))


def codes_to_text(catalogue: Catalogue, backbone: Backbone, config: RecommenderConfig) -> TextTask:
    """An item's codes to its text and an end token (LC-Rec, 3.3.2); items without text have no sample."""
    texts = item_texts(catalogue)
    items = np.flatnonzero([bool(text) for text in texts])
    words = backbone.encode([" " + texts[item] for item in items], max_tokens=config.alignment_tokens)
    instruction = backbone.encode([config.prompts.describe], max_tokens=10_000, begin=True).flat
    contexts = Ragged(np.tile(instruction, len(items)), len(instruction) * np.arange(len(items) + 1))
    return TextTask(contexts, items, _between(_NONE, words, np.array([backbone.end_id])))


def titles_to_codes(
    catalogue: Catalogue, histories: Histories, backbone: Backbone, config: RecommenderConfig
) -> TextTask:
    """Titles of a history to the next item's codes (LC-Rec, 3.3.3, "asymmetric item prediction"); a sample per user.

    The target is the user's last item, the history as many of the items before it as ``max_history`` and
    ``history_tokens`` allow, the most recent ones.
    """
    users = np.flatnonzero(histories.lengths >= 2)
    ends = histories.offsets[1:][users] - 1  # (users,) events of the targets
    counts = np.minimum(histories.lengths[users] - 1, config.max_history).astype(np.int64)
    starts = np.cumsum(counts) - counts
    events = np.repeat(ends - counts - starts, counts) + np.arange(int(counts.sum()))
    past = histories.items[events].astype(np.int64)  # (events read,) user by user, oldest first
    titles = backbone.encode([f" {title};" for title in catalogue.titles], max_tokens=config.history_tokens)
    # tokens from an event's title to the end of its history; titles beyond the limit are the oldest
    sizes = titles.lengths[past]
    before = np.cumsum(sizes) - sizes
    to_end = np.repeat(before[starts] + np.add.reduceat(sizes, starts), counts) - before
    kept = to_end <= config.history_tokens
    flat, lengths = _joined(titles, past[kept])
    owner = np.repeat(np.arange(len(users)), counts)[kept]
    totals = np.bincount(owner, weights=lengths, minlength=len(users)).astype(np.int64)
    contexts = Ragged(flat, np.concatenate([[0], np.cumsum(totals)]))
    instruction = backbone.encode([config.prompts.titles], max_tokens=10_000, begin=True).flat
    question = backbone.encode([config.prompts.alignment_after], max_tokens=10_000).flat
    return TextTask(_between(instruction, contexts, question), histories.items[ends].astype(np.int64))


def item_texts(catalogue: Catalogue) -> list[str]:
    """Filled attributes of each item, joined by semicolons."""
    filled = [pl.when(pl.col(name).str.len_bytes() > 0).then(pl.col(name)) for name in catalogue.attributes]
    joined = pl.concat_str(filled, separator="; ", ignore_nulls=True)
    return catalogue.frame.select(text=joined).to_series().to_list()


def _between(head: np.ndarray, lists: Ragged, tail: np.ndarray) -> Ragged:
    """Each of ``lists`` with ``head`` before and ``tail`` after it."""
    count, flat, offsets = len(lists), lists.flat, lists.offsets
    # one after the other: the end of a list is the same place as the beginning of the next
    flat = np.insert(flat, np.repeat(offsets[1:], len(tail)), np.tile(tail, count))
    offsets = offsets + len(tail) * np.arange(count + 1)
    flat = np.insert(flat, np.repeat(offsets[:-1], len(head)), np.tile(head, count))
    return Ragged(flat, offsets + len(head) * np.arange(count + 1))


def _joined(lists: Ragged, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lists ``rows`` one after the other as one flat array, and their lengths."""
    lengths = lists.lengths[rows]
    shift = lists.offsets[:-1][rows] - (np.cumsum(lengths) - lengths)
    return lists.flat[np.repeat(shift, lengths) + np.arange(int(lengths.sum()))], lengths
