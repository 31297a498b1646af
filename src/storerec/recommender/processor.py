"""The code tree for plain transformers: its ``generate`` writes the codes of existing items only."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from storerec.codes import CodeTree
from storerec.recommender.config import Normaliser
from storerec.recommender.tree import TorchTree


class CodeTreeProcessor:
    """A logits processor for ``generate(logits_processor=[...])`` of a model that knows codes as words.

    Each generated code must lead on to an item, and has the log-probability that
    :class:`storerec.recommender.BeamSearch` gives it, so that beams of the same width find the same items in the same
    order (the scores lack the share of items with equal codes).

    Parameters
    ----------
    tree: all items' codes.
    first_word: token id of the first code; those of all positions follow one another.
    text_words: token ids below this are text.
    prompt_tokens: tokens before the first code, the same for all rows (pad to the left).
    normaliser: over what a code's probability is normalised; what the recommender was trained with.
    """

    def __init__(
        self, tree: CodeTree, first_word: int, text_words: int, prompt_tokens: int, normaliser: Normaliser
    ) -> None:
        self.tree = TorchTree(tree, torch.device("cpu"))
        self.text_words, self.prompt_tokens, self.normaliser = text_words, prompt_tokens, normaliser
        self.starts = first_word + np.concatenate([[0], np.cumsum(tree.sizes)])  # ids of each position's first code

    def generation(self, beam: int) -> dict[str, Any]:
        """Arguments of ``generate`` for a search ``beam`` wide."""
        levels = self.tree.levels
        return {
            "max_new_tokens": levels,
            "min_new_tokens": levels,
            "num_beams": beam,
            "num_return_sequences": beam,
            "do_sample": False,
            "length_penalty": 0.0,  # scores are sums of log-probabilities
            "eos_token_id": None,
        }

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of the next code, (rows, vocabulary), from what was generated (rows, tokens) so far."""
        written = input_ids[:, self.prompt_tokens :].cpu()  # (rows, codes so far)
        level = written.shape[1]
        nodes = torch.zeros(len(written), dtype=torch.int64)
        for before in range(level):
            code = (written[:, before] - int(self.starts[before])).clamp(0, self.tree.sizes[before] - 1)
            nodes = self.tree.children(before, nodes).gather(1, code[:, None])[:, 0]  # (rows,)
        children = self.tree.children(level, nodes)  # (rows, codes of the position)
        allowed = (children >= 0).to(scores.device)
        begin, end = int(self.starts[level]), int(self.starts[level + 1])
        own = scores[:, begin:end]  # (rows, codes of the position)
        if self.normaliser == "children":
            own = own.masked_fill(~allowed, -torch.inf).log_softmax(-1)
        elif self.normaliser == "position":
            own = own.log_softmax(-1)
        else:  # text and codes; the tokens of items, which come last, are inputs only
            codes = scores[:, int(self.starts[0]) : int(self.starts[-1])]
            own = own - torch.cat([scores[:, : self.text_words], codes], dim=1).logsumexp(-1, keepdim=True)
        out = torch.full_like(scores, -torch.inf)
        out[:, begin:end] = own.masked_fill(~allowed, -torch.inf)
        return out
