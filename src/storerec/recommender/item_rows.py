"""Items' own vectors beside those of their codes (docs/method.md, section 3)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from storerec.recommender.config import RecommenderConfig


class ItemRows(nn.Module):
    """What each item adds to the vectors of its codes where it is read, and where it is predicted.

    Without a rank an item has two vectors of the width, both starting at zero; with ``tie_codes`` the second is the
    first times the codes' output scale. With a rank an item has one vector of that many numbers, and two maps that all
    items share lay it across the width, one for reading and one, which starts at zero, for predicting.

    Parameters
    ----------
    like: a tensor (any, width) whose width, type and device the rows take.
    scale: the output scale of tied rows; None for rows of their own.
    """

    def __init__(
        self, items: int, like: torch.Tensor, config: RecommenderConfig, scale: nn.Parameter | None, *, seed: int
    ) -> None:
        super().__init__()
        width, rank = like.shape[1], config.item_rank
        self.rank, self._scale = rank, (scale,)  # in a tuple: it is the recommender's parameter, not this module's
        if rank is None:
            self.item_inputs = nn.Parameter(like.new_zeros(items, width))
            if scale is None:
                self.own_item_outputs = nn.Parameter(like.new_zeros(items, width))
            return
        drawn = np.random.default_rng([seed, 5]).standard_normal((width, rank))
        spread = np.linalg.qr(drawn)[0].T if rank <= width else drawn.T / rank**0.5
        self.item_factors = nn.Parameter(like.new_zeros(items, rank))
        self.item_reading = nn.Parameter(torch.from_numpy(spread.copy()).to(like))  # (rank, width)
        self.item_telling = nn.Parameter(like.new_zeros(rank, width))

    def trained(self) -> dict[str, nn.Parameter]:
        """All parameters, by the names they have in saved weights."""
        return dict(self.named_parameters())

    def read(self, items: torch.Tensor) -> torch.Tensor:
        """What items add where they are read: (...) rows of the catalogue -> (..., width)."""
        if self.rank is None:
            return F.embedding(items, self.item_inputs)
        return F.embedding(items, self.item_factors) @ self.item_reading

    @property
    def inputs(self) -> torch.Tensor:
        """What every item adds where it is read: (items, width)."""
        return self.item_inputs if self.rank is None else self.item_factors @ self.item_reading

    @property
    def outputs(self) -> torch.Tensor:
        """What every item adds to the sum of its codes' output rows: (items, width)."""
        if self.rank is not None:
            return self.item_factors @ self.item_telling
        scale = self._scale[0]
        return self.own_item_outputs if scale is None else self.item_inputs * scale

    @torch.no_grad()
    def extend(self, items: int) -> None:
        """Let so many more items stand behind the others, with vectors of zeros: their codes alone speak for them."""
        for name in ("item_inputs", "own_item_outputs", "item_factors"):
            rows = getattr(self, name, None)  # (items, width or rank)
            if rows is not None:
                whole = torch.cat([rows, rows.new_zeros(items, rows.shape[1])])
                setattr(self, name, nn.Parameter(whole, requires_grad=rows.requires_grad))

    def start(self, rows: np.ndarray) -> None:
        """Let the vectors by which items are read start at ``rows`` (items, width), or as near as the rank allows."""
        with torch.no_grad():
            if self.rank is None:
                self.item_inputs.copy_(torch.from_numpy(rows))
                return
            near = torch.linalg.lstsq(self.item_reading.T.double().cpu(), torch.from_numpy(rows).double().T)
            self.item_factors.copy_(near.solution.T)

    def hold_unseen(self, counts: np.ndarray) -> None:
        """Keep what items without events are predicted by at zero in training; ``counts`` (items,) are their events.

        As wrong answers to every event they would only learn to be unlikely, their kind's most of all, and so would
        undo what their codes say.
        """
        if self.rank is not None:
            held = self.item_factors
        else:
            held = self.item_inputs if self._scale[0] is not None else self.own_item_outputs
        seen = torch.as_tensor(counts > 0, device=held.device)[:, None]  # (items, 1)
        held.register_hook(lambda gradient: gradient * seen)
