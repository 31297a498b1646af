"""Rows of codes that training moves whole, or within a low rank of where they start."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


class CodeRows(nn.Module):
    """Vectors of all codes of all positions, (codes, width).

    With a rank, what training adds to the start is the product of two factors, as LoRA does it for the layers' maps:
    one, zero at first, with ``rank`` numbers per code, and one that all codes share. The start is saved with them.

    Parameters
    ----------
    start: (codes, width).
    """

    def __init__(self, start: torch.Tensor, rank: int | None, *, seed: int) -> None:
        super().__init__()
        self.rank = rank
        self.start = nn.Parameter(start, requires_grad=rank is None)
        if rank is not None:
            drawn = np.random.default_rng([seed, 6]).standard_normal((rank, start.shape[1]))
            self.change = nn.Parameter(start.new_zeros(len(start), rank))
            self.spread = nn.Parameter(torch.from_numpy(drawn * 0.5 / rank**0.5).to(start))

    @property
    def value(self) -> torch.Tensor:
        """The rows as they are: (codes, width)."""
        return self.start if self.rank is None else self.start + self.change @ self.spread

    def trained(self, name: str) -> dict[str, nn.Parameter]:
        """What training changes; ``name`` is that of the rows in saved weights."""
        if self.rank is None:
            return {name: self.start}
        return {f"{name}_change": self.change, f"{name}_spread": self.spread}

    def kept(self, name: str) -> dict[str, nn.Parameter]:
        """What is saved beside it and stays as it is."""
        return {} if self.rank is None else {name: self.start}
