"""Mean and variance of numbers that come in chunks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from storerec.codes.position import Floats


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and variance of columns, joined chunk by chunk; the same each time for the same order of chunks.

    Sums of squares would lose the variance where it is small beside the mean, so that squares are of differences to
    the mean, and joining moves them to the common one (Chan, Golub and LeVeque, "Algorithms for computing the sample
    variance", 1983).

    Attributes
    ----------
    count: rows so far.
    mean: (v,) float64.
    squares: (v,) float64, sums of squared differences to the mean.
    """

    count: int
    mean: Floats
    squares: Floats

    @classmethod
    def of(cls, values: np.ndarray) -> Moments:
        """Of values (m, v), m >= 0."""
        values = values.astype(np.float64, copy=False)
        mean = values.mean(axis=0) if len(values) else np.zeros(values.shape[1])
        return cls(len(values), mean, ((values - mean) ** 2).sum(axis=0))

    def joined(self, other: Moments) -> Moments:
        """Of these rows and the other's behind them."""
        count = self.count + other.count
        if count == 0:
            return self
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        squares = self.squares + other.squares + apart**2 * (self.count * other.count / count)
        return Moments(count, mean, squares)

    @property
    def deviation(self) -> Floats:
        """Standard deviation (v,), by count - 1; 0 of a single row."""
        return np.sqrt(self.squares / max(self.count - 1, 1))
