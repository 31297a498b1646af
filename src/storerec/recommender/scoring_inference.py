"""Scoring with the trained yes/no scorer: each history is read once, and its candidates behind it some at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from storerec.data.judgements import Candidates
from storerec.llm.inference import Opening, inference_layers
from storerec.llm.progress import Progress
from storerec.recommender.scoring import CodeScorer, packing

_TOGETHER = 32
"""Candidates of a history that are read at a time: their attention to each other is computed, though masked."""

_TOKENS = 1 << 13
"""Most padded tokens of one call of the layers; bounds memory."""


@torch.no_grad()
def opening_of(model: CodeScorer, dtype: torch.dtype, *, fused: bool = True, int8: bool = False) -> Opening:
    """The layers that score, with the model's weights as they are now, and the instruction that they have read."""
    layers = inference_layers(model.base, model.backbone.word_embeddings, model.adapters, dtype, fused=fused, int8=int8)
    return Opening(layers, model.backbone.embed(model.instruction))


def predict(
    model: CodeScorer,
    candidates: Candidates,
    dtype: torch.dtype,
    progress: Progress | None = None,
    *,
    opening: Opening | None = None,
) -> NDArray[np.float64]:
    """Logit of yes minus logit of no for each candidate, (n,); computed in ``dtype``.

    ``opening`` is that of :func:`opening_of`, which takes seconds: who scores again and again makes it once.
    """
    recent = candidates.histories.tail(model.settings.max_history)
    past, starts = np.append(recent.items, 0).astype(np.int64), recent.offsets[:-1].astype(np.int64)
    opening = opening or opening_of(model, dtype)
    margins = np.zeros(len(candidates.items))
    parts = list(_batches(recent.lengths, candidates.lengths, model))
    shown = (progress or Progress(enabled=False)).track(
        parts, "scoring", len(recent), sizes=[len(part) for part in parts], unit="group"
    )
    trained_in, model.compute_dtype = model.compute_dtype, dtype
    try:
        for groups in shown:
            lengths = recent.lengths[groups].astype(np.int64)
            history, _ = padded(past, starts[groups], lengths)
            for places, told, found in _scored(model, opening, (history, lengths), candidates, groups):
                margins[places[told]] = found[told]
    finally:
        model.compute_dtype = trained_in
    return margins


def _batches(past: NDArray[np.int64], counts: NDArray[np.int64], model: CodeScorer) -> Iterator[NDArray[np.int64]]:
    """Groups with candidates, of near-equal history and number of candidates, as many at a time as memory allows."""
    busy = np.flatnonzero(counts)
    order = busy[np.lexsort((counts[busy], past[busy]))]
    block = model.tree.levels + len(model.question)
    tokens = len(model.instruction) + past[order] * model.tree.levels + np.minimum(counts[order], _TOGETHER) * block
    start = 0
    while start < len(order):
        longest = np.maximum.accumulate(tokens[start:])
        padded_tokens = longest * np.arange(1, len(longest) + 1)  # of the batch, if it ended here
        count = max(1, int(np.searchsorted(padded_tokens, _TOKENS, side="right")))
        yield order[start : start + count]
        start += count


@torch.no_grad()
def _scored(
    model: CodeScorer,
    opening: Opening,
    history: tuple[NDArray[np.int64], NDArray[np.int64]],
    candidates: Candidates,
    groups: NDArray[np.int64],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]]:
    """For some candidates of each group at a time: their places, which are no padding, and their margins.

    ``history`` are the groups' (groups, longest) items and (groups,) lengths.
    """
    device = model.backbone.device
    past, ends = model.past(*(torch.from_numpy(array).to(device) for array in history))
    layers, read, begin, longest = opening.layers, opening.fork(len(past)), opening.tokens, past.shape[1]
    shown = torch.arange(longest, device=device) < ends[:, None]  # (groups, past tokens): no padding
    counts, items = candidates.lengths[groups], np.append(candidates.items, 0).astype(np.int64)
    for first in range(0, int(counts.max()), _TOGETHER):
        here = np.clip(counts - first, 0, _TOGETHER)
        places, told = padded(np.arange(len(items)), candidates.offsets[groups] + first, here)
        blocks = model.blocks(torch.from_numpy(items[places]).to(device))  # (groups, candidates, block, width)
        count, size = blocks.shape[1:3]
        at, seen = packing(ends, longest, count, size)
        inputs = torch.cat([past, blocks.flatten(1, 2)], dim=1)  # (groups, total, width)
        given = torch.from_numpy(told).to(device).repeat_interleave(size, 1)  # (groups, block tokens)
        real = torch.cat([shown, given], dim=1)
        asked = longest - begin + size * torch.arange(1, count + 1, device=device) - 1  # (candidates,): last of each
        # the history is read with the first candidates: weights pass the memory once for both
        last = layers.run(
            inputs[:, begin:], at[:, begin:], read, seen[:, begin:], wanted=asked.expand(len(past), -1),
            real=real[:, begin:],
        )  # (groups, candidates, width)  # fmt: skip
        logits = model.answers(last).double()
        yield places, told, (logits[..., 0] - logits[..., 1]).cpu().numpy()
        if first + _TOGETHER < counts.max():
            read, begin = layers.fork(read, tokens=longest), longest


def padded(
    values: NDArray[np.int64], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Ranges of ``values`` right-padded, (rows, longest), and which entries are no padding."""
    columns = np.arange(int(lengths.max(initial=0)))
    inside = columns < lengths[:, None]
    return values[np.where(inside, starts[:, None] + columns, 0)], inside
