"""Items of a history as input vectors: one token per code, or one per item."""

from __future__ import annotations

from typing import Literal

import torch

HistoryForm = Literal["codes", "items"]


def history_tokens(read: torch.Tensor, own: torch.Tensor | None, form: HistoryForm) -> torch.Tensor:
    """Vectors of a history's tokens, (rows, items x tokens of an item, width).

    Parameters
    ----------
    read: (rows, items, positions, width) input rows of the items' codes.
    own: (rows, items, width) the items' own input rows; None without.
    form: ``codes`` gives each code a token and adds an item's own row to its last one; ``items`` gives an item one, the
        sum of all.
    """
    if form == "items":
        # divided so that a sum of unrelated rows keeps the scale of a word
        whole = read.sum(-2) / read.shape[-2] ** 0.5
        return whole if own is None else whole + own
    if own is not None:
        read = torch.cat([read[..., :-1, :], (read[..., -1, :] + own)[..., None, :]], dim=-2)
    return read.flatten(1, 2)


def tokens_of_item(positions: int, form: HistoryForm) -> int:
    """Tokens that an item of ``positions`` codes takes in a history."""
    return 1 if form == "items" else positions
