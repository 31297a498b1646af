"""The residual-quantised autoencoder as a torch module (TIGER, arXiv 2305.05065, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from storerec.codes.rqvae_uniform import Transport


@dataclass(frozen=True)
class Quantised:
    """What quantising latent vectors gives.

    Attributes
    ----------
    codes: (n, levels) int64.
    residuals: (levels, n, latent), what each level had to code.
    vectors: (levels, n, latent), the code vectors taken.
    """

    codes: torch.Tensor
    residuals: torch.Tensor
    vectors: torch.Tensor


class Autoencoder(nn.Module):
    """Encoder, one codebook per level, decoder.

    Attributes
    ----------
    codebooks: (levels, codes, latent).
    """

    def __init__(self, width: int, hidden: Sequence[int], latent: int, levels: int, codes: int) -> None:
        super().__init__()
        self.encoder = _layers([width, *hidden, latent])
        self.decoder = _layers([latent, *reversed(hidden), width])
        self.codebooks = nn.Parameter(torch.empty(levels, codes, latent).uniform_(-1.0 / codes, 1.0 / codes))

    def distances(self, residual: torch.Tensor, level: int) -> torch.Tensor:
        """Squared distances (n, codes) of one level's residuals (n, latent) to its codebook."""
        book = self.codebooks[level]
        squares = residual.square().sum(1, keepdim=True) + book.square().sum(1)
        return (squares - 2.0 * residual @ book.T).clamp_min(0.0)

    def quantise(self, latent: torch.Tensor, last: Transport | None = None) -> Quantised:
        """Code latent vectors (n, latent) level by level; ``last`` assigns the last one, else the nearest code does."""
        residual, codes, residuals, vectors = latent, [], [], []
        levels = len(self.codebooks)
        for level in range(levels):
            with torch.no_grad():
                distances = self.distances(residual, level)  # (n, codes)
                if last is not None and level == levels - 1:
                    chosen = last.plan(distances).argmax(1)  # (n,)
                else:
                    chosen = distances.argmin(1)  # (n,)
            vector = F.embedding(chosen, self.codebooks[level])  # (n, latent)
            codes.append(chosen)
            residuals.append(residual)
            vectors.append(vector)
            residual = residual - vector.detach()  # (n, latent)
        return Quantised(torch.stack(codes, 1), torch.stack(residuals), torch.stack(vectors))

    def losses(
        self, inputs: torch.Tensor, commitment: float, last: Transport | None
    ) -> tuple[torch.Tensor, torch.Tensor, Quantised]:
        """Reconstruction error and quantisation loss (mean squares per entry, levels added) of inputs (n, width)."""
        latent = self.encoder(inputs)  # (n, latent)
        found = self.quantise(latent, last)
        # straight through: the decoder reads the code vectors, the encoder gets their gradient
        passed = latent + (found.vectors.sum(0) - latent).detach()  # (n, latent)
        error = F.mse_loss(self.decoder(passed), inputs)
        books = F.mse_loss(found.vectors, found.residuals.detach())
        commit = F.mse_loss(found.residuals, found.vectors.detach())
        return error, len(self.codebooks) * (books + commitment * commit), found


def _layers(widths: Sequence[int]) -> nn.Sequential:
    """Linear maps with ReLU between them; the first is number 0, the next 2, and so on."""
    parts: list[nn.Module] = []
    for wide, narrow in pairwise(widths):
        parts += [nn.Linear(wide, narrow), nn.ReLU()]
    return nn.Sequential(*parts[:-1])
