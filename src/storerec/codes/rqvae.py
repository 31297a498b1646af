"""Item embeddings to residual codes by an RQ-VAE (docs/method.md, "RQ-VAE"): TIGER's and LC-Rec's code builder."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from storerec.codes.rqvae_config import RqVaeConfig
from storerec.codes.rqvae_model import Autoencoder
from storerec.codes.rqvae_training import RqVaeTraining
from storerec.codes.rqvae_uniform import Transport, spread
from storerec.errors import DataError, StorerecWarning
from storerec.llm.progress import Progress

__all__ = ["RqVae", "RqVaeConfig"]

_CHUNK_VALUES = 1 << 22
"""Float64 values of one working array (32 MiB); bounds memory whatever the number of items."""


class RqVae:
    """A trained residual-quantised autoencoder; turns item embeddings into codes, coarse level first.

    Make one with :meth:`fit` or :meth:`from_arrays`. :meth:`assign` looks at each vector alone; only
    :meth:`assign_all` of a model with ``uniform_last`` looks at the others too.

    Attributes
    ----------
    history: mean reconstruction error (mean square of standardised entries) of every training epoch.
    """

    def __init__(
        self, model: Autoencoder, mean: np.ndarray, scale: np.ndarray, transport: Transport | None, history: list[float]
    ) -> None:
        self._stored = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
        self._stored |= {"mean": mean, "scale": scale}
        # float64 from here on: the order of sums changes with the chunk's size, and at float32 that could flip the
        # nearest code of an item near a border, so that a published code would depend on the batch
        self._model = Autoencoder(len(mean), _hidden(self._stored), *_latent_shape(self._stored))
        self._model.load_state_dict(model.state_dict())
        self._model.double().requires_grad_(False)
        self._mean, self._scale = mean.astype(np.float64), scale.astype(np.float64)
        self._transport, self.history = transport, history

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of codes of each level, used or not."""
        levels, codes, _ = self._model.codebooks.shape
        return (codes,) * levels

    @property
    def width(self) -> int:
        """Width D of the vectors it was fitted on."""
        return len(self._mean)

    @classmethod
    def fit(
        cls, vectors: np.ndarray, config: RqVaeConfig, seed: int, *, device: str = "cpu",
        progress: Progress | None = None,
    ) -> Self:  # fmt: skip
        """Train on the embeddings of all items.

        Parameters
        ----------
        vectors
            (n, D) real, n >= 1.
        config
            sizes, defences against collapse, effort.
        seed
            decides initial weights, k-means, order and revival; same input and seed give the same codes.
        device
            a torch device to train on; the result is on the CPU.
        progress
            shows a bar; None shows nothing.

        Raises
        ------
        DataError: wrong shape, or a value that is not finite (names the first item row).
        TrainingError: the loss is not finite.

        Warns
        -----
        StorerecWarning: fewer items than ``config.codes``, so that levels get fewer codes; or a level whose items
        take under a quarter of the codes they could.
        """
        _check(vectors, None)
        codes = min(config.codes, len(vectors))
        if codes < config.codes:
            _warn(f"RQ-VAE: {config.codes} codes asked for, but there are {len(vectors)} items; levels get {codes}")
        mean, scale = _moments(vectors) if config.standardise else _neutral(vectors.shape[1])
        training = RqVaeTraining(vectors, mean, scale, config, codes, seed, device)
        model, history = training.run(progress or Progress(enabled=False))
        fitted = cls(model, mean, scale, training.last, history)
        for level, column in enumerate(fitted.assign(vectors).T):
            used = len(np.unique(column))
            if 4 * used < codes:
                _warn(f"RQ-VAE: level {level} uses {used} of its {codes} codes; the codes have collapsed")
        return fitted

    def assign(self, vectors: np.ndarray) -> NDArray[np.int32]:
        """Nearest code of every level.

        Takes vectors (n, D), gives codes (n, levels) int32. A vector's codes depend on that vector alone, with
        ``uniform_last`` too; ties go to the smaller code. Works in chunks of bounded memory. Raises
        :class:`DataError` for another shape or values that are not finite.
        """
        _check(vectors, self.width)
        codes = np.empty((len(vectors), len(self.sizes)), dtype=np.int32)
        for part in self._chunks(len(vectors)):
            codes[part] = self._model.quantise(self._latent(vectors[part])).codes.numpy()
        return codes

    def assign_all(self, vectors: np.ndarray) -> NDArray[np.int32]:
        """Codes of a whole catalogue: as :meth:`assign`, and with ``uniform_last`` colliding items are spread.

        Items with a tuple of their own keep it; items that share one get free codes of the last level under the
        same prefix (see :func:`~storerec.codes.rqvae_uniform.spread`), so that tuples are unique wherever a prefix
        has no more items than the level has codes. Those items' codes depend on the others given, and on the order
        of items with equal vectors. Takes and gives what :meth:`assign` does, and raises like it.
        """
        codes = self.assign(vectors)
        if self._transport is None:
            return codes
        last = np.empty((len(vectors), self.sizes[-1]), np.float64)
        for part in self._chunks(len(vectors)):
            last[part] = self._distances(vectors[part])[:, -1]
        return spread(codes, last, self._transport)

    def distances(self, vectors: np.ndarray) -> NDArray[np.float32]:
        """Squared distances of each level's residual to its codebook.

        Takes vectors (n, D), gives (n, levels, k) float32. Residuals are those left by the nearest codes before.
        Raises like :meth:`assign`.
        """
        _check(vectors, self.width)
        out = np.empty((len(vectors), len(self.sizes), self.sizes[0]), dtype=np.float32)
        for part in self._chunks(len(vectors)):
            out[part] = self._distances(vectors[part])
        return out

    def reconstruct(self, codes: np.ndarray) -> NDArray[np.float32]:
        """Vectors (n, D) float32 that the decoder makes of codes (n, levels); raises DataError for other codes."""
        if codes.ndim != 2 or codes.shape[1] != len(self.sizes) or not np.issubdtype(codes.dtype, np.integer):
            raise DataError(f"codes must be integers (items, {len(self.sizes)}), got {codes.shape} {codes.dtype}")
        if len(codes) and (codes.min() < 0 or codes.max() >= self.sizes[0]):
            raise DataError(f"codes outside 0..{self.sizes[0] - 1}")
        out = np.empty((len(codes), self.width), dtype=np.float32)
        for part in self._chunks(len(codes)):
            chosen = torch.from_numpy(codes[part].astype(np.int64))  # (rows, levels)
            latent = sum(book[column] for book, column in zip(self._model.codebooks, chosen.T, strict=True))
            out[part] = self._model.decoder(latent).numpy() * self._scale + self._mean
        return out

    def cluster_means(self, vectors: np.ndarray, codes: np.ndarray) -> list[NDArray[np.float32]]:
        """A vector per code in the embeddings' own space, for starting code embeddings.

        Takes vectors (n, D) and their codes (n, levels); gives per level a (k, D) float32 array: the mean vector of
        the first level's codes, then the mean of what the means of the levels before leave of each item. A code
        that no item has gets its level's mean. Raises :class:`DataError` for wrong shapes or codes.
        """
        _check(vectors, self.width)
        if codes.shape != (len(vectors), len(self.sizes)) or codes.min() < 0 or codes.max() >= self.sizes[0]:
            raise DataError(f"codes must be {(len(vectors), len(self.sizes))} of 0..{self.sizes[0] - 1}")
        means: list[np.ndarray] = []
        for level, size in enumerate(self.sizes):
            sums = np.zeros((size, self.width))
            for part in self._chunks(len(vectors)):
                left = vectors[part].astype(np.float64)
                for before, mean in enumerate(means):
                    left -= mean[codes[part, before]]
                order = np.argsort(codes[part, level], kind="stable")
                used, starts = np.unique(codes[part, level][order], return_index=True)
                sums[used] += np.add.reduceat(left[order], starts, axis=0)
            counts = np.bincount(codes[:, level], minlength=size)[:, None]
            means.append(np.where(counts > 0, sums / np.maximum(counts, 1), sums.sum(axis=0) / len(vectors)))
        return [mean.astype(np.float32) for mean in means]

    def arrays(self) -> dict[str, np.ndarray]:
        """All state as float32 arrays, for saving: weights, codebooks, mean, scale, uniform mapping, history."""
        uniform = [self._transport.epsilon, self._transport.iterations] if self._transport else []
        return self._stored | {
            "uniform_last": np.array(uniform, np.float32),
            "history": np.array(self.history, np.float32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Inverse of :meth:`arrays`, with equal codes; raises :class:`DataError` when arrays lack or do not fit."""
        try:
            mean, scale = arrays["mean"], arrays["scale"]
            model = Autoencoder(len(mean), _hidden(arrays), *_latent_shape(arrays))
            weights = {name: torch.from_numpy(np.array(arrays[name])) for name in model.state_dict()}
            uniform, history = arrays["uniform_last"].tolist(), arrays["history"].tolist()
            model.load_state_dict(weights)
        except KeyError as missing:
            raise DataError(f"RQ-VAE state lacks the array {missing}") from None
        except (RuntimeError, ValueError, IndexError) as error:
            raise DataError(f"RQ-VAE state: shapes do not fit together ({' '.join(str(error).split())})") from None
        transport = Transport(uniform[0], int(uniform[1])) if uniform else None
        return cls(model, mean, scale, transport, history)

    def _latent(self, vectors: np.ndarray) -> torch.Tensor:
        return self._model.encoder(torch.from_numpy((vectors - self._mean) / self._scale))  # (rows, latent) float64

    def _distances(self, vectors: np.ndarray) -> np.ndarray:
        """Squared distances (rows, levels, k) float64."""
        residuals = self._model.quantise(self._latent(vectors)).residuals  # (levels, rows, latent)
        found = [self._model.distances(residual, level) for level, residual in enumerate(residuals)]
        return torch.stack(found, 1).numpy()

    def _chunks(self, n: int) -> Iterator[slice]:
        widest = max(self.width, sum(self.sizes), *(array.shape[0] for array in self._stored.values()))
        rows = max(1, _CHUNK_VALUES // widest)
        return (slice(start, min(start + rows, n)) for start in range(0, n, rows))


def _hidden(arrays: Mapping[str, np.ndarray]) -> list[int]:
    """Widths of the encoder's hidden layers, from the heights of its weights."""
    count = sum(name.startswith("encoder.") and name.endswith(".weight") for name in arrays)
    return [arrays[f"encoder.{2 * i}.weight"].shape[0] for i in range(count - 1)]


def _latent_shape(arrays: Mapping[str, np.ndarray]) -> tuple[int, int, int]:
    """Latent width, levels and codes per level."""
    levels, codes, latent = arrays["codebooks"].shape
    return latent, levels, codes


def _check(vectors: np.ndarray, width: int | None) -> None:
    if vectors.ndim != 2 or 0 in vectors.shape or not np.issubdtype(vectors.dtype, np.floating):
        raise DataError(f"item embeddings must be floats (items, width), got {vectors.shape} {vectors.dtype}")
    if width is not None and vectors.shape[1] != width:
        raise DataError(f"item embeddings have shape {vectors.shape}, the RQ-VAE expects (items, {width})")
    step = max(1, _CHUNK_VALUES // vectors.shape[1])
    for start in range(0, len(vectors), step):
        good = np.isfinite(vectors[start : start + step]).all(axis=1)
        if not good.all():
            row = start + int(np.argmin(good))
            raise DataError(f"item row {row}: its embedding holds a value that is not finite (NaN or infinity)")


def _moments(vectors: np.ndarray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation (D,) of each dimension; 1 where a dimension does not vary."""
    step = max(1, _CHUNK_VALUES // vectors.shape[1])
    parts = [slice(start, start + step) for start in range(0, len(vectors), step)]
    mean = sum(vectors[part].sum(axis=0, dtype=np.float64) for part in parts) / len(vectors)
    squares = sum(((vectors[part].astype(np.float64) - mean) ** 2).sum(axis=0) for part in parts)
    deviation = np.sqrt(squares / len(vectors))
    # a dimension that is one value but for rounding holds nothing, and must not be blown up to something
    flat = deviation <= 1e-6 * np.maximum(np.abs(mean), deviation.max())
    return mean.astype(np.float32), np.where(flat, 1.0, deviation).astype(np.float32)


def _neutral(width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.zeros(width, np.float32), np.ones(width, np.float32)


def _warn(text: str) -> None:
    warnings.warn(text, StorerecWarning, stacklevel=3)
