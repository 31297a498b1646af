"""What is fitted of one token position: a PCA and the centres in its space."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_CACHED_VALUES = 1 << 18
"""Float64 values of a working array that is only looked through once (2 MiB, which caches hold)."""


@dataclass(frozen=True, eq=False)
class Position:
    """The fitted parts of one position, all float64.

    Attributes
    ----------
    mean, components, centres: (D,), (d, D), (k, d).
    spread: (101,) percentiles of the fitted items' squared distances to their centres; empty where they are not known,
        as in what was fitted before they were kept.
    """

    mean: Floats
    components: Floats
    centres: Floats
    spread: Floats = field(default_factory=lambda: np.empty(0))

    def distances(self, vectors: np.ndarray) -> Floats:
        """Squared distances (rows, k) of raw vectors (rows, D) to the centres."""
        # float64 throughout: the order of sums changes with the chunk's size, and at float32 that could flip
        # the nearest centre of an item near a border, so that a published code would depend on the batch.
        low = (vectors.astype(np.float64) - self.mean) @ self.components.T
        squares = (low**2).sum(axis=1)[:, None] + (self.centres**2).sum(axis=1)[None, :]
        return np.maximum(squares - 2.0 * (low @ self.centres.T), 0.0)

    def nearest(self, vectors: np.ndarray) -> NDArray[np.int32]:
        """The nearest centre (rows,) of raw vectors (rows, D); ties go to the smaller number."""
        return self.nearest_of(vectors)[0]

    def nearest_of(self, vectors: np.ndarray) -> tuple[NDArray[np.int32], Floats]:
        """As :meth:`nearest`, and the squared distance to it (rows,)."""
        found, least = np.empty(len(vectors), np.int32), np.empty(len(vectors))
        step = max(1, _CACHED_VALUES // max(self.components.shape[1], len(self.centres)))
        for start in range(0, len(vectors), step):
            part = slice(start, start + step)
            distances = self.distances(vectors[part])
            found[part] = distances.argmin(axis=1)
            least[part] = np.take_along_axis(distances, found[part][:, None], axis=1)[:, 0]
        return found, least

    def back(self) -> Floats:
        """The centres as raw vectors (k, D)."""
        return self.mean + self.centres @ self.components
