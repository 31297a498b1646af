"""Histories and candidates as a BERT-style encoder's tokens, alone and as pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from storerec.data.judgements import Candidates
from storerec.errors import BackboneError
from storerec.llm.batching import Ragged
from storerec.llm.quiet import quiet_transformers
from storerec.systems.packing import cut
from storerec.systems.text_prompt import TextPrompt

SPECIAL = 3
"""Tokens around a pair: [CLS] history [SEP] candidate [SEP]."""


@dataclass(frozen=True)
class EncoderTokens:
    """Token ids without special tokens.

    Attributes
    ----------
    histories: one list per group.
    items: one list per different item.
    group: (n,) the list in ``histories`` of each candidate.
    item: (n,) the list in ``items`` of each candidate.
    begin, end: ids of the tokens before and after a text ([CLS] and [SEP]).
    """

    histories: Ragged
    items: Ragged
    group: NDArray[np.int64]
    item: NDArray[np.int64]
    begin: int
    end: int

    @classmethod
    def build(
        cls,
        candidates: Candidates,
        prompt: TextPrompt,
        tokenizer: Any,
        *,
        max_history_tokens: int,
        max_candidate_tokens: int,
    ) -> Self:
        """Tokenize; histories keep their last tokens, candidates their first. BackboneError without [CLS] and [SEP]."""
        begin, end = tokenizer.cls_token_id, tokenizer.sep_token_id
        if begin is None or end is None:
            raise BackboneError("the encoder's tokenizer has no [CLS] and [SEP] tokens; take a BERT-style encoder")
        items, item = np.unique(candidates.items, return_inverse=True)
        return cls(
            histories=cut(_encode(prompt.histories(candidates.histories), tokenizer), last=max_history_tokens),
            items=cut(_encode(prompt.texts(items), tokenizer), first=max_candidate_tokens),
            group=candidates.groups.astype(np.int64),
            item=item.astype(np.int64).reshape(-1),
            begin=int(begin),
            end=int(end),
        )

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each pair, special ones included: (n,)."""
        return self.histories.lengths[self.group] + self.items.lengths[self.item] + SPECIAL

    def pairs(self, places: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """``[CLS] history [SEP] candidate [SEP]`` of candidates ``places``, right-padded.

        Returns
        -------
        ``input_ids``, ``attention_mask`` and ``token_type_ids`` (0 up to the first [SEP], then 1), each
        (places, longest) int64.
        """
        history, h = self.histories.padded(self.group[places])  # (places, longest), (places,)
        item, c = self.items.padded(self.item[places])
        columns = np.arange(int((h + c).max()) + SPECIAL)
        h, c = h[:, None], c[:, None]
        before = _moved(history, np.broadcast_to(columns - 1, (len(h), len(columns))))
        behind = _moved(item, columns - h - 2)
        ids = np.where(columns <= h, before, behind)
        ids[:, 0] = self.begin
        ids[(columns == h + 1) | (columns == h + c + 2)] = self.end
        real = columns <= h + c + 2
        arrays = {"input_ids": ids, "attention_mask": real, "token_type_ids": real & (columns > h + 1)}
        return {name: torch.from_numpy(array.astype(np.int64)) for name, array in arrays.items()}

    def single(self, ids: Ragged, rows: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """``[CLS] text [SEP]`` of lists ``rows`` of :attr:`histories` or :attr:`items`, right-padded."""
        text, n = ids.padded(rows)
        n = n[:, None]
        columns = np.arange(text.shape[1] + 2)
        shifted = np.pad(text, ((0, 0), (1, 1)))
        found = np.where(columns == 0, self.begin, np.where(columns == n + 1, self.end, shifted))
        real = columns <= n + 1
        arrays = {"input_ids": np.where(real, found, 0), "attention_mask": real}
        return {name: torch.from_numpy(array.astype(np.int64)) for name, array in arrays.items()}


def _moved(ids: NDArray[np.int64], source: NDArray[np.int64]) -> NDArray[np.int64]:
    """Take ``ids`` (rows, m) at columns ``source`` (rows, k), anything where there is none."""
    return np.take_along_axis(ids, np.clip(source, 0, ids.shape[1] - 1), axis=1)


def _encode(texts: pl.Series, tokenizer: Any) -> Ragged:
    with quiet_transformers():  # it would warn of texts longer than the encoder reads, which are cut afterwards
        lists = tokenizer(texts.to_list(), add_special_tokens=False)["input_ids"] if len(texts) else []
    return Ragged.from_lists(lists)
