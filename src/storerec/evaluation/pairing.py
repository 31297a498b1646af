"""Many systems measured on the same users: intervals from one resampling, and tests against a reference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from storerec.config import Config
from storerec.evaluation.bootstrap import Interval, bootstrap_means
from storerec.evaluation.significance import holm, sign_flip_p

Values = Mapping[str, NDArray[np.float64]]
Metrics = dict[str, Interval]


class Difference(Interval):
    """Reference minus another system, with its paired interval and test."""

    p: float
    """Two-sided p-value of the paired sign-flip test across users."""

    p_adjusted: float
    """The same after Holm's correction over all other systems of this metric."""

    better: int
    """Users for whom the reference is the better one."""

    worse: int
    """Users for whom it is the worse one; the rest tie."""


class Resampling(Config):
    """How intervals and tests draw."""

    samples: int = Field(1000, ge=1)
    """Resampled sets of users behind each interval."""

    confidence: float = Field(0.95, gt=0, lt=1)
    """Level of the intervals."""

    flips: int = Field(10_000, ge=1)
    """Random sign patterns behind each p-value."""

    seed: int = 0
    """Decides both."""


def intervals(values: Mapping[str, Values], options: Resampling) -> dict[str, Metrics]:
    """Mean of each system's metrics, with intervals from the same resampled users for all.

    ``values`` is by system, then metric, (users,) each; systems without a metric get none.
    """
    rows = {(system, metric): row for system, metrics in values.items() for metric, row in metrics.items()}
    out: dict[str, Metrics] = {system: {} for system in values}
    if rows:
        for (system, metric), found in zip(rows, _bootstrap(np.stack(list(rows.values())), options), strict=True):
            out[system][metric] = found
    return out


def differences(values: Mapping[str, Values], reference: str, options: Resampling) -> dict[str, dict[str, Difference]]:
    """Reference minus each other system: by other system, then metric. All systems have the same metrics.

    Holm's correction is over the other systems, for each metric by itself.
    """
    others = [name for name in values if name != reference]
    metrics = list(values[reference])
    if not others or not metrics:
        return {}
    own = np.stack(list(values[reference].values()))
    rows = np.concatenate([own - np.stack([values[name][m] for m in metrics]) for name in others])
    found = _bootstrap(rows, options)
    p = sign_flip_p(rows, flips=options.flips, seed=options.seed).reshape(len(others), len(metrics))
    adjusted = np.stack([holm(column) for column in p.T], axis=1)
    better = (rows > 0).sum(axis=1).reshape(p.shape)
    worse = (rows < 0).sum(axis=1).reshape(p.shape)
    return {
        name: {
            metric: Difference(
                **found[i * len(metrics) + j].model_dump(),
                p=float(p[i, j]),
                p_adjusted=float(adjusted[i, j]),
                better=int(better[i, j]),
                worse=int(worse[i, j]),
            )
            for j, metric in enumerate(metrics)
        }
        for i, name in enumerate(others)
    }


def mean_over_seeds(values: list[Values]) -> dict[str, NDArray[np.float64]]:
    """Average of each user's metrics over the seeds; the same metrics in all."""
    return {metric: np.mean([v[metric] for v in values], axis=0) for metric in values[0]}


def seed_figures(values: list[Values]) -> tuple[dict[str, tuple[float, ...]], dict[str, float | None]]:
    """Each seed's own mean, and the standard deviation of these (n - 1; None for one seed), by metric."""
    means = {metric: tuple(float(v[metric].mean()) for v in values) for metric in values[0]}
    return means, {m: float(np.std(row, ddof=1)) if len(row) > 1 else None for m, row in means.items()}


def _bootstrap(rows: np.ndarray, options: Resampling) -> list[Interval]:
    return bootstrap_means(rows, samples=options.samples, confidence=options.confidence, seed=options.seed)
