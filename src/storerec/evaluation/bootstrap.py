"""Percentile bootstrap over users: how far a mean would move with other users of the same kind."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from storerec.config import Config
from storerec.errors import DataError

_CELLS = 1 << 22
"""Most resampled users held at once (samples x users)."""


class Interval(Config):
    """A mean with its bootstrap interval."""

    value: float
    """Mean over the users."""

    low: float
    """Lower end of the interval."""

    high: float
    """Upper end of the interval."""


def bootstrap_means(values: np.ndarray, *, samples: int, confidence: float, seed: int) -> list[Interval]:
    """Means over users with percentile bootstrap intervals.

    Users are drawn with replacement, the same draws for all rows of ``values``, so intervals of differences
    of rows are paired ones. Like ``scipy.stats.bootstrap(method="percentile")`` of the mean.

    Parameters
    ----------
    values
        (m, users) float, one row per metric; users >= 1.
    samples
        number of resamples.
    confidence
        level of the interval, between 0 and 1.
    seed
        decides the draws.

    Returns
    -------
    m intervals.

    Raises
    ------
    DataError: values is not (m, users) with at least one user.
    """
    if values.ndim != 2 or values.shape[1] == 0:
        raise DataError(f"bootstrap needs values (metrics, users) of at least one user, got {values.shape}")
    means = _resampled_means(values, samples, np.random.default_rng(seed))
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    centre = values.mean(axis=1)
    return [Interval(value=float(v), low=float(a), high=float(b)) for v, a, b in zip(centre, low, high, strict=True)]


def paired_difference(
    first: np.ndarray, second: np.ndarray, *, samples: int, confidence: float, seed: int
) -> list[Interval]:
    """Mean of ``first - second`` with its interval, per metric; both (m, users) in the same user order."""
    if first.shape != second.shape:
        raise DataError(f"paired values must have one shape, got {first.shape} and {second.shape}")
    return bootstrap_means(first - second, samples=samples, confidence=confidence, seed=seed)


def _resampled_means(values: np.ndarray, samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Means (samples, m) of resampled users."""
    users = values.shape[1]
    means = np.empty((samples, len(values)))
    step = max(1, _CELLS // users)
    for start in range(0, samples, step):
        count = min(step, samples - start)
        drawn = rng.integers(0, users, size=(count, users))
        # How often each user was drawn, then one matrix product for all metrics, instead of gathering each.
        drawn += np.arange(count)[:, None] * users
        times = np.bincount(drawn.ravel(), minlength=count * users).reshape(count, users)
        means[start : start + count] = times.astype(np.float64) @ values.T / users
    return means
