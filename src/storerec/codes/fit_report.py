"""How well a codebook fits items it was not fitted on: their distances to the centres against the training items'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FAR_QUANTILE = 95
"""An item is far from its centre where it is farther than this share of the training items, in percent."""

_TOO_MANY_FAR = 0.10
"""Share of far items above which codes say little about new ones: twice what chance gives."""

_FEWEST = 10
"""Fewer new items give no alarm: one far item of one says nothing of the next."""


@dataclass(frozen=True)
class CodebookFit:
    """How new items lie in the codebook.

    Attributes
    ----------
    items: how many new items.
    far: by position, the share of them farther from their centre than 95% of the training items (chance: 0.05).
    ratio: by position, their median squared distance over that of the training items (chance: 1).
    surely_far: by position, the lower 95% limit of ``far`` (Wilson), so that few items give no alarm.
    """

    items: int
    far: tuple[float, ...]
    ratio: tuple[float, ...]
    surely_far: tuple[float, ...]

    @classmethod
    def of(cls, distances: np.ndarray, spread: np.ndarray) -> CodebookFit:
        """From new items' distances (m, positions), m >= 1, and the training items' quantiles (positions, 101)."""
        far = (distances > spread[:, FAR_QUANTILE]).mean(axis=0)
        middle = np.maximum(spread[:, 50], np.finfo(np.float64).tiny)
        ratio = np.median(distances, axis=0) / middle
        limits = [_lower_limit(float(share), len(distances)) for share in far]
        return cls(len(distances), tuple(far.tolist()), tuple(ratio.tolist()), tuple(limits))

    @property
    def refit(self) -> bool:
        """Whether to fit anew: of ten new items or more, surely over 10% lie far, in some position."""
        return self.items >= _FEWEST and max(self.surely_far) > _TOO_MANY_FAR

    @property
    def verdict(self) -> str:
        """What to do, in a sentence."""
        worst = int(np.argmax(self.surely_far))
        told = (
            f"{100 * self.far[worst]:.0f}% of {self.items} new items lie far from their centre at position {worst + 1}"
        )
        if self.refit:
            return f"{told} (5% of the training items do): their texts are of another kind, fit anew with them"
        return f"{told} (5% of the training items do): no need to fit anew for their sake"

    def to_json(self) -> dict[str, Any]:
        """All figures, as JSON values."""
        return {
            "items": self.items,
            "far": list(self.far),
            "ratio": list(self.ratio),
            "surely_far": list(self.surely_far),
            "refit": self.refit,
            "verdict": self.verdict,
        }


def quantiles(distances: np.ndarray) -> NDArray[np.float64]:
    """The 101 percentiles of training items' distances (n,)."""
    return np.percentile(distances.astype(np.float64), np.arange(101))


def _lower_limit(share: float, count: int, z: float = 1.96) -> float:
    """Wilson's lower limit of a share seen in ``count`` draws."""
    middle, spread = share + z**2 / (2 * count), z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return float(max(0.0, (middle - spread) / (1 + z**2 / count)))
