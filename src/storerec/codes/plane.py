"""Items in two dimensions, by their codes: a map of the catalogue that new items find their place in."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from storerec.codes.clusterer import Clusterer

_MOST_ROWS = 20_000
"""Most items that the axes are fitted on."""


@dataclass(frozen=True, eq=False)
class Plane:
    """The two directions in which items' cluster centres differ most (PCA).

    An item is where the centres of its codes are, all positions side by side, so that it needs no dense tokens, and an
    added one none but its codes.

    Attributes
    ----------
    places: by position, (codes, 2): what a code adds to its items' place.
    """

    places: tuple[NDArray[np.float64], ...]

    @classmethod
    def fit(cls, clusterer: Clusterer, codes: np.ndarray) -> Self:
        """From the codes (n, positions or more) of a catalogue; positions beyond the clusterer's say nothing."""
        centres = clusterer.centres
        some = codes[np.unique(np.linspace(0, len(codes) - 1, min(len(codes), _MOST_ROWS)).astype(np.int64))]
        parts = [rows[some[:, position]] for position, rows in enumerate(centres)]
        means = [part.mean(axis=0) for part in parts]
        centred = np.concatenate([part - mean for part, mean in zip(parts, means, strict=True)], axis=1)
        _, vectors = np.linalg.eigh(centred.T @ centred)
        axes = vectors[:, ::-1][:, :2]  # (dims of all positions, 2)
        if axes.shape[1] < 2:  # a single dimension
            axes = np.pad(axes, ((0, 0), (0, 2 - axes.shape[1])))
        axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)  # the same way up each time
        ends = np.cumsum([0, *(rows.shape[1] for rows in centres)])
        own = [axes[start:end] for start, end in itertools.pairwise(ends)]
        return cls(tuple((rows - mean) @ axis for rows, mean, axis in zip(centres, means, own, strict=True)))

    def of(self, codes: np.ndarray) -> NDArray[np.float32]:
        """Places (n, 2) of items with ``codes`` (n, positions or more)."""
        return np.sum([rows[codes[:, i]] for i, rows in enumerate(self.places)], axis=0).astype(np.float32)
