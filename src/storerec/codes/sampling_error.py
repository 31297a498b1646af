"""What fitting k-means on a sample costs: stated from the distances of all items, which are known once all have codes.

Let d be the mean squared distance to the nearest centre, over all items (d_all) or over the rows that the centres were
fitted on last (d_fit). The centres make d_fit small, not d_all, so that d_all / d_fit - 1, the excess, is how much too
good the sample looks.

The interval is what a random sample of that size says of all items: d_fit plus and minus 1.96 standard errors by the
central limit theorem, of the sample's own standard deviation, with the correction for drawing m of N without
replacement, sqrt(1 - m / N). It holds for centres that do not depend on the sample. Where d_all lies above it, the
excess is more than chance.

The limit of the loss follows from both. For the best centres C of a sample and the best ones B of all items, d_fit(C)
<= d_fit(B), so that d_all(C) - d_all(B) <= d_all(C) - d_fit(C) + (d_fit(B) - d_all(B)), of which the last term is 0 in
the mean and at most 1.645 standard errors with 95% confidence. This is as true as Lloyd's algorithm finds minima of the
sample that are as good as those it would find of all items.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from storerec.codes.moments import Moments
from storerec.config import Config

METHOD = (
    "squared distances in PCA space to the nearest centre, exact over all items; interval of a sample of fitted_items "
    "by the central limit theorem with the correction for finite populations (95%); loss_limit: one-sided 95% limit "
    "of all_items' share that centres fitted on all items could save"
)
"""How the figures are made, as it stands in the file."""

_BOTH_SIDES, _ONE_SIDE = 1.959963984540054, 1.6448536269514722
"""Standard errors of 95% confidence."""


class PositionError(Config):
    """What one position lost by being fitted on a sample."""

    all_items: float
    """Mean squared distance to the nearest centre over all items; exact."""

    fitted_items: float
    """The same over the items that the centres were fitted on last."""

    low: float
    """Lower end of the 95% interval that a random sample of that size gives for all items."""

    high: float
    """Upper end of it."""

    excess: float | None
    """``all_items`` / ``fitted_items`` - 1; None where the sample's distances are all 0 and others' are not."""

    loss_limit: float
    """Centres fitted on all items would have a mean lower by at most this share (one-sided, 95%); within 0 and 1."""


class SamplingError(Config):
    """The stated error of k-means on a sample; the module's text has the method."""

    items: int
    """Items of the catalogue."""

    sample: int
    """Items that PCA and k-means were fitted on."""

    fitted_items: int
    """Items that the centres were fitted on last: the sample, or up to five times as many."""

    positions: tuple[PositionError, ...]
    """One entry per token position."""

    @classmethod
    def of(cls, every: Moments, fitted: Moments, sample: int) -> Self:
        """From squared distances to the nearest centres: of all items, and of those fitted on last.

        ``every`` and ``fitted`` are moments of (items, v) distances, as :meth:`~storerec.codes.Clusterer.nearest`
        gives them; :meth:`~storerec.codes.drawn.Drawn.is_last` says which items are in ``fitted``.
        """
        left = np.sqrt(max(0.0, 1.0 - fitted.count / every.count))  # of the error; none where all items were fitted on
        error = fitted.deviation * left / np.sqrt(max(fitted.count, 1))
        figures = zip(every.mean.tolist(), fitted.mean.tolist(), error.tolist(), strict=True)
        return cls(
            items=every.count,
            sample=sample,
            fitted_items=fitted.count,
            positions=tuple(_position(*one) for one in figures),
        )

    @property
    def worst(self) -> PositionError:
        """The position with the highest limit of the loss."""
        return max(self.positions, key=lambda one: one.loss_limit)

    def to_json(self) -> dict[str, Any]:
        """All figures and the method, as JSON values."""
        return {"method": METHOD, **self.model_dump(mode="json")}


def _position(every: float, fitted: float, error: float) -> PositionError:
    excess = every / fitted - 1 if fitted > 0 else (0.0 if every == 0 else None)
    loss = (every - fitted + _ONE_SIDE * error) / every if every > 0 else 0.0
    return PositionError(
        all_items=every,
        fitted_items=fitted,
        low=max(0.0, fitted - _BOTH_SIDES * error),
        high=fitted + _BOTH_SIDES * error,
        excess=excess,
        loss_limit=min(1.0, max(0.0, loss)),
    )
