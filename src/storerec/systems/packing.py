"""Texts of groups and candidates as tokens, and batches in which a group's candidates share one reading of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from storerec.data.judgements import Candidates
from storerec.llm.backbone import Backbone
from storerec.llm.batching import Ragged, token_batches
from storerec.systems.text_prompt import TextPrompt

_MARK = "THEQUESTION"
_ALL = 1 << 30


@dataclass(frozen=True)
class PromptTokens:
    """Token ids of prompts, cut where all candidates of a group begin to differ.

    Attributes
    ----------
    prefixes: one list per group: what comes before the question, the instruction and the history.
    suffixes: one list per different item: the candidate, the question and what comes after it.
    suffix_of: (n,) the list in ``suffixes`` of each candidate.
    offsets: (groups + 1,) where each group's candidates lie.
    """

    prefixes: Ragged
    suffixes: Ragged
    suffix_of: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @classmethod
    def build(
        cls,
        candidates: Candidates,
        prompt: TextPrompt,
        backbone: Backbone,
        *,
        chat: bool,
        max_history_tokens: int,
        max_candidate_tokens: int,
    ) -> Self:
        """Tokenize ``candidates``.

        Histories keep their last ``max_history_tokens``, candidates their first ``max_candidate_tokens``. The parts
        are tokenized apart, so the prompts of a group have equal first tokens whatever the candidate is.
        """
        before, after = around(backbone, prompt, chat=chat)
        begin = not before  # a chat template brings its own first token
        head = backbone.encode([before + prompt.instruction], max_tokens=_ALL, begin=begin).flat
        tail = backbone.encode([prompt.question + after], max_tokens=_ALL).flat
        histories = _encode(prompt.histories(candidates.histories), backbone)
        items, suffix_of = np.unique(candidates.items, return_inverse=True)
        texts = _encode(prompt.candidates(items), backbone)
        nothing = np.zeros(0, np.int64)
        return cls(
            prefixes=join(head, cut(histories, last=max_history_tokens), nothing),
            suffixes=join(nothing, cut(texts, first=max_candidate_tokens), tail),
            suffix_of=suffix_of.astype(np.int64).reshape(-1),
            offsets=candidates.offsets,
        )

    @property
    def packed_lengths(self) -> NDArray[np.int64]:
        """Tokens of all candidates of each group together: (groups,)."""
        ends = np.concatenate([[0], np.cumsum(self.suffixes.lengths[self.suffix_of])])
        return np.diff(ends[self.offsets])

    def batches(self, tokens: int) -> list[NDArray[np.int64]]:
        """Groups that have candidates, cut into batches of about ``tokens`` padded tokens (one group at least)."""
        busy = np.flatnonzero(np.diff(self.offsets))
        ends = np.concatenate([[0], np.cumsum((self.prefixes.lengths + self.packed_lengths)[busy])])
        return [busy[rows] for rows in token_batches(Ragged(np.zeros(0, np.int64), ends), tokens)]

    def chunks(self, groups: NDArray[np.int64], tokens: int) -> Iterator[list[NDArray[np.int64]]]:
        """Candidates (places) of each of ``groups``, all at once where they fit into ``tokens``, else in turns."""
        places = [np.arange(self.offsets[g], self.offsets[g + 1]) for g in groups]
        longest = int(self.packed_lengths[groups].max())
        turns = 1 if len(groups) > 1 else max(1, -(-longest // tokens))
        for parts in zip(*(np.array_split(p, min(turns, len(p))) for p in places), strict=True):
            yield list(parts)

    def pack(self, places: list[NDArray[np.int64]]) -> dict[str, torch.Tensor]:
        """One row per group with all its candidates behind each other.

        Returns
        -------
        ``suffix`` (groups, longest) token ids; ``segment`` (groups, longest) the number of the candidate a token
        belongs to, -1 on padding; ``place`` (groups, longest) the token's position within its candidate; ``row``
        and ``column`` (candidates,) where each candidate's last token lies.
        """
        row = np.repeat(np.arange(len(places)), [len(p) for p in places])  # (candidates,)
        chosen = self.suffix_of[np.concatenate(places)]
        lengths = self.suffixes.lengths[chosen]
        starts = np.cumsum(lengths) - lengths
        firsts = np.searchsorted(row, np.arange(len(places)))  # each row's first candidate
        column = starts - starts[firsts][row]  # of the candidate's first token in its row
        of = np.repeat(np.arange(len(chosen)), lengths)  # (tokens,) the candidate of each token
        within = np.arange(len(of)) - starts[of]
        shape = (len(places), int((column + lengths).max()))
        suffix, segment, place = np.zeros(shape, np.int64), np.full(shape, -1), np.zeros(shape, np.int64)
        at = row[of], column[of] + within
        suffix[at] = self.suffixes.flat[self.suffixes.offsets[chosen][of] + within]
        segment[at], place[at] = of, within
        arrays = {"suffix": suffix, "segment": segment, "place": place, "row": row, "column": column + lengths - 1}
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def around(backbone: Backbone, prompt: TextPrompt, *, chat: bool) -> tuple[str, str]:
    """What stands before and after a prompt: the chat template's turns, or only the start of the answer."""
    tokenizer: Any = backbone.tokenizer
    if not (chat and getattr(tokenizer, "chat_template", None)):
        return "", f"\n{prompt.config.answer}"
    turn = [{"role": "user", "content": _MARK}]
    whole = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    before, _, after = whole.partition(_MARK)
    return before, after


def cut(ids: Ragged, *, first: int = _ALL, last: int = _ALL) -> Ragged:
    """Keep the ``first`` or the ``last`` tokens of each list."""
    lengths = np.minimum(ids.lengths, min(first, last))
    starts = ids.offsets[1:] - lengths if last < _ALL else ids.offsets[:-1]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Ragged(ids.flat[np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)], offsets)


def join(before: NDArray[np.int64], ids: Ragged, after: NDArray[np.int64]) -> Ragged:
    """Put the same tokens before and after each list."""
    offsets = ids.offsets + np.arange(len(ids) + 1) * (len(before) + len(after))
    flat = np.empty(int(offsets[-1]), np.int64)
    flat[offsets[:-1, None] + np.arange(len(before))] = before
    flat[offsets[1:, None] - len(after) + np.arange(len(after))] = after
    moved = np.repeat(offsets[:-1] + len(before) - ids.offsets[:-1], ids.lengths)
    flat[np.arange(len(ids.flat)) + moved] = ids.flat
    return Ragged(flat, offsets)


def _encode(texts: pl.Series, backbone: Backbone) -> Ragged:
    return backbone.encode(texts.to_list(), max_tokens=_ALL)
