"""The largest of many scores."""

from __future__ import annotations

import torch

_BLOCK = 64
"""Scores of which the largest is looked at first."""


def best(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The ``k`` largest of each row and their places: (rows, n) -> (rows, k) each, falling.

    On a CPU by blocks: the k largest are in the k blocks of largest maxima. 20 of 82 thousand take 55 us where
    ``torch.topk`` takes 220 (one thread, AVX2). Among equal scores either may be taken, as with ``topk``.
    """
    rows, n = scores.shape
    if scores.device.type != "cpu" or n % _BLOCK or n <= 4 * _BLOCK * k:
        return scores.topk(k)
    blocks = scores.view(rows, -1, _BLOCK)  # (rows, blocks, block)
    some = blocks.amax(-1).topk(k)[1].sort(-1)[0]  # (rows, k)
    value, place = blocks.gather(1, some[..., None].expand(-1, -1, _BLOCK)).flatten(1).topk(k)  # (rows, k)
    return value, some.gather(1, place // _BLOCK) * _BLOCK + place % _BLOCK
