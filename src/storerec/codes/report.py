"""How well a code table uses its codes: utilisation, perplexity, collisions."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from storerec.config import Config

_CHUNK_ROWS = 1 << 20
"""Rows counted at a time."""


class PositionReport(Config):
    """Use of one code position."""

    size: int
    """Codes the position has."""

    used: int
    """Codes that at least one item has."""

    perplexity: float
    """exp of the entropy (nats) of the codes' shares of items; equals ``size`` when all are used alike."""


class CodeReport(Config):
    """Summary of a code table; collapse shows as low perplexity and a high share of colliding items."""

    items: int
    """Items in the table."""

    tuples: int
    """Distinct code tuples."""

    colliding_share: float
    """Share of items (0 to 1) whose tuple at least one other item has too."""

    largest_bucket: int
    """Most items on one tuple."""

    policy: str
    """Collision policy of the table."""

    positions: tuple[PositionReport, ...]
    """One entry per code position."""

    @classmethod
    def from_codes(cls, codes: np.ndarray, sizes: np.ndarray, bucket_sizes: np.ndarray, policy: str) -> Self:
        """Summarise codes (n, L), sizes (L,) and the number of items of each tuple, bucket_sizes (t,)."""
        positions = []
        for j, size in enumerate(sizes.tolist()):
            counts = np.zeros(size, np.int64)
            for start in range(0, len(codes), _CHUNK_ROWS):  # bincount copies what it counts to int64
                counts += np.bincount(codes[start : start + _CHUNK_ROWS, j], minlength=size)
            share = counts[counts > 0] / len(codes)
            entropy = -(share * np.log(share)).sum()
            positions.append(PositionReport(size=size, used=len(share), perplexity=float(np.exp(entropy))))
        return cls(
            items=len(codes),
            tuples=len(bucket_sizes),
            colliding_share=float(bucket_sizes[bucket_sizes > 1].sum() / len(codes)),
            largest_bucket=int(bucket_sizes.max()),
            policy=policy,
            positions=tuple(positions),
        )

    def to_json(self) -> dict[str, Any]:
        """The report as JSON-ready values; ``CodeReport.parse`` reads it back."""
        return self.model_dump(mode="json")
