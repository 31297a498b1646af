"""What a recommender is trained on: codes of target items, these items by their own rows, and texts of items."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from storerec.llm.precision import arithmetic
from storerec.llm.shares import parts, whole_mean
from storerec.recommender.normalisers import position_loss

if TYPE_CHECKING:
    from storerec.recommender.model import Recommender


def target_loss(model: Recommender, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Mean cross-entropy per code over the batch's target items only, plus that of the items by their own rows.

    ``batch``: ``context`` (rows, longest), ``context_lengths`` (rows,), ``items`` (rows, items) catalogue rows (padding
    anything) and ``targets`` (rows, items) bool.
    """
    items, told = batch["items"], batch["targets"]
    reading = (batch["context"], batch["context_lengths"], items)
    if model.settings.history == "items":
        owners = drawn_owners(model, items)
        first, rest = model.branched(*reading, owners)
    else:
        owners = torch.arange(items.shape[1], device=items.device)
        hidden = model.code_hidden(*reading)  # (rows, items, positions, width)
        first, rest = hidden[:, :, 0], hidden[:, :, 1:]
    first = model.drop(first[told])  # (targets, width)
    rest = model.drop(rest[told[:, owners]])  # (targets with branches, positions - 1, width)
    rows, branched = items[told], items[:, owners][told[:, owners]]
    normaliser = model.settings.normaliser
    of_first, of_later = parts(len(rows), len(branched))
    losses = [of_first.weight * position_loss(model, model.tree, first, rows, 0, normaliser)]
    if of_later.total:
        later = range(1, model.tree.levels)
        losses += [
            of_later.weight * position_loss(model, model.tree, rest[:, p - 1], branched, p, normaliser)
            if len(branched)
            else losses[0].new_zeros(())  # other processes' shares of the batch have some
            for p in later
        ]
    loss = torch.stack(losses).mean()
    if model.settings.item_rows:  # the item as one more prediction beside its codes
        whole = of_first.weight * F.cross_entropy(model.item_logits(first), rows)
        loss = loss + model.settings.item_loss * whole / len(model.sizes)
    return loss


def text_loss(model: Recommender, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Mean cross-entropy per token of texts that follow an item's codes, over the text vocabulary.

    ``batch``: ``context``, ``context_lengths`` and ``items`` (rows, 1) as in :func:`target_loss`, ``answers`` (rows,
    longest) token ids and ``answer_lengths`` (rows,).
    """
    lengths, items, answers = batch["context_lengths"], batch["items"], batch["answers"]
    codes = model.drop(model.history_tokens(items))  # (rows, tokens of an item, width)
    read = torch.cat([codes, model.backbone.embed(answers)], dim=1)
    inputs = model.inputs(batch["context"], lengths, read)
    hidden = model.run(inputs, torch.arange(inputs.shape[1], device=inputs.device).expand(len(inputs), -1))
    step = torch.arange(answers.shape[1], device=answers.device)
    before = (lengths - 1 + codes.shape[1])[:, None] + step  # (rows, longest) the output before each token
    told = step < batch["answer_lengths"][:, None]
    hidden = hidden.gather(1, before[..., None].expand(-1, -1, hidden.shape[-1]))[told]  # (tokens, width)
    with arithmetic(model.compute_dtype, hidden.device):
        logits = model.backbone.text_logits(model.drop(hidden))
    loss = F.cross_entropy(logits if logits.dtype == torch.float64 else logits.float(), answers[told])
    return whole_mean(loss, len(hidden))


def drawn_owners(model: Recommender, items: torch.Tensor) -> torch.Tensor:
    """The items of a window, by number, whose codes after the first are trained this time; all in evaluation."""
    count = items.shape[1]
    if not model.training or model.settings.code_share >= 1 or count < 2:
        return torch.arange(count, device=items.device)
    return torch.randperm(count)[: math.ceil(model.settings.code_share * count)].sort().values.to(items.device)
