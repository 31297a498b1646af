"""Training of the residual-quantised autoencoder, with its defences against collapse."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from storerec.codes.rqvae_config import RqVaeConfig
from storerec.codes.rqvae_model import Autoencoder
from storerec.codes.rqvae_uniform import Transport
from storerec.errors import TrainingError
from storerec.llm.progress import Progress

_START_PER_CODE = 16
"""Items per code that the k-means start sees, if there are so many; a batch alone may hold hardly more than codes."""


class RqVaeTraining:
    """One training run over vectors (n, D) that are standardised batch by batch.

    Parameters
    ----------
    vectors: (n, D) real.
    mean, scale: (D,) float32, subtracted and divided by.
    """

    def __init__(
        self, vectors: np.ndarray, mean: np.ndarray, scale: np.ndarray, config: RqVaeConfig, codes: int, seed: int,
        device: str,
    ) -> None:  # fmt: skip
        self.vectors, self.mean, self.scale, self.config = vectors, mean, scale, config
        self.device = torch.device(device)
        self.rng = np.random.default_rng(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = Autoencoder(vectors.shape[1], config.hidden, config.latent, config.levels, codes)
        self.model = model.to(self.device)
        self.last = Transport(config.sinkhorn_epsilon, config.sinkhorn_iterations) if config.uniform_last else None
        self.per_epoch = -(-len(vectors) // config.batch_size)
        steps = config.epochs * self.per_epoch
        self.steps = steps if config.max_steps is None else min(steps, config.max_steps)
        self.taken = torch.zeros(config.levels, codes, dtype=torch.int64, device=self.device)
        networks = [*model.encoder.parameters(), *model.decoder.parameters()]
        groups = [
            {"params": networks, "weight_decay": config.weight_decay},
            {"params": [model.codebooks], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)

    def run(self, progress: Progress) -> tuple[Autoencoder, list[float]]:
        """Train; gives the model, on the CPU, and the mean reconstruction error of every epoch."""
        if self.config.kmeans_start:
            self._start()
        history: list[float] = []
        bar = progress.start("training the RQ-VAE", self.steps, unit="step")
        for first in range(0, self.steps, self.per_epoch):
            order = self.rng.permutation(len(self.vectors))
            batches = np.array_split(order, self.per_epoch)[: self.steps - first]  # no batch is left tiny
            errors = torch.stack([self._step(first + i, rows) for i, rows in enumerate(batches)])
            history.append(float(errors.mean()))
            if not math.isfinite(history[-1]):
                raise TrainingError(
                    f"RQ-VAE: the reconstruction error is {history[-1]} in epoch {len(history)}; "
                    "lower learning_rate or switch standardise on"
                )
            progress.advance(bar, len(batches))
            progress.note(bar, f"error {history[-1]:.4f}")
        progress.finish(bar)
        return self.model.to("cpu"), history

    def _inputs(self, rows: np.ndarray) -> torch.Tensor:
        part = (self.vectors[rows].astype(np.float32, copy=False) - self.mean) / self.scale
        return torch.from_numpy(part).to(self.device)  # (rows, D)

    def _step(self, step: int, rows: np.ndarray) -> torch.Tensor:
        """One optimizer step on items ``rows``; gives the reconstruction error."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * _schedule(step, self.steps)
        error, quantisation, found = self.model.losses(self._inputs(rows), self.config.commitment, self.last)
        self.optimizer.zero_grad(set_to_none=True)
        (error + quantisation).backward()
        self.optimizer.step()
        if self.config.revive:
            ones = torch.ones_like(found.codes.T)
            self.taken.scatter_add_(1, found.codes.T, ones)
            if (step + 1) % self.config.revive_steps == 0 and step + 1 < self.steps:
                self._revive(found.residuals.detach())
        return error.detach()

    @torch.no_grad()
    def _start(self) -> None:
        """Put the codebooks on the k-means centres of the residuals of random items."""
        codes = self.taken.shape[1]
        wanted = min(len(self.vectors), max(self.config.batch_size, _START_PER_CODE * codes))
        rows = np.sort(self.rng.choice(len(self.vectors), wanted, replace=False))
        residual = self.model.encoder(self._inputs(rows)).cpu().double().numpy()  # (rows, latent)
        for level in range(self.config.levels):
            kmeans = KMeans(codes, n_init=1, max_iter=50, random_state=int(self.rng.integers(2**31 - 1)))
            # One thread: with more, scikit-learn adds partial sums in no fixed order
            with threadpool_limits(limits=1), warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                labels = kmeans.fit(residual).labels_
            centres = kmeans.cluster_centers_
            self.model.codebooks[level] = torch.from_numpy(centres).to(self.model.codebooks)
            residual = residual - centres[labels]

    @torch.no_grad()
    def _revive(self, residuals: torch.Tensor) -> None:
        """Put unused codes on residuals (levels, n, latent) of random items, and count anew."""
        moments = self.optimizer.state[self.model.codebooks]
        for level, taken in enumerate(self.taken):
            dead = torch.nonzero(taken == 0)[:, 0]  # (dead,)
            count = residuals.shape[1]
            drawn = self.rng.choice(count, len(dead), replace=len(dead) > count)
            self.model.codebooks[level, dead] = residuals[level, torch.from_numpy(drawn).to(self.device)]
            for name in ("exp_avg", "exp_avg_sq"):
                moments[name][level, dead] = 0.0  # they belong to where the code was
        self.taken.zero_()


def _schedule(step: int, steps: int) -> float:
    """Factor of the learning rate: up over the first 2% of the steps, then down along a cosine."""
    rise = max(1, steps // 50)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
