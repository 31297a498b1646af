"""Where tokens stand and what they see when each item of a window branches off into its codes."""

from __future__ import annotations

import torch


def branch_layout(
    longest: int, lengths: torch.Tensor, items: int, positions: int, owners: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Places and attention of sequences of context, items and branches.

    Parameters
    ----------
    longest: tokens of the padded contexts; ``lengths`` (rows,) of them are real.
    items: targets of a window; all but the last are also read, as one token each.
    positions: codes of an item; its branch has all but the last.
    owners: (branches,) the items, by number in the window, that have branches.

    Returns
    -------
    places (rows, total) and who sees whom (rows, total, total) bool, with total = longest + items - 1 + branches x
    (positions - 1). Item ``t`` stands at place ``length + t``; code ``j`` of its branch at ``length + t + j``.
    """
    device = lengths.device
    token = torch.arange(longest, device=device)
    item = torch.arange(items - 1, device=device)
    owner = owners.repeat_interleave(positions - 1)
    depth = torch.arange(positions - 1, device=device).repeat(len(owners))
    after = torch.cat([item, owner + depth])  # (items - 1 + branches,)
    places = torch.cat([token.expand(len(lengths), -1), lengths[:, None] + after], dim=1)
    kind = torch.cat([torch.zeros_like(token), torch.ones_like(item), torch.full_like(owner, 2)])  # (total,)
    when = torch.cat([token, item, owner])  # place among its kind
    deep = torch.cat([torch.zeros_like(token), torch.zeros_like(item), depth])
    query, key = kind[:, None], kind[None]
    seen = (key == 0) & ((query > 0) | (when[None] <= when[:, None]))
    seen |= (key == 1) & (query == 1) & (when[None] <= when[:, None])
    seen |= (key == 1) & (query == 2) & (when[None] < when[:, None])
    seen |= (key == 2) & (query == 2) & (when[None] == when[:, None]) & (deep[None] <= deep[:, None])
    real = torch.ones((len(lengths), len(kind)), dtype=torch.bool, device=device)
    real[:, :longest] = token < lengths[:, None]
    # padding sees itself, so that no softmax is over nothing
    itself = torch.eye(len(kind), dtype=torch.bool, device=device)
    return places, (seen & real[:, None]) | itself
