"""How much of a Ray cluster to use; never what is computed."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from storerec.config import Config


class RayConfig(Config):
    """Workers, what each of them takes of a node, and how often a lost one is replaced."""

    address: str | None = None
    """Address of a running cluster (``auto`` for the one this machine is part of, ``ray://HOST:10001`` is not
    supported); None starts one on this machine, which ends with the program."""

    workers: int = Field(default=2, ge=1)
    """Processes that read, encode, cluster, evaluate or train at a time."""

    train_workers: int | None = Field(default=None, ge=1)
    """Processes that train together, if another number. What is trained on one and on several agrees but for rounding,
    and for dropout, which each draws for itself."""

    min_workers: int | None = Field(default=None, ge=1)
    """Fewest processes training goes on with when nodes are lost; None waits for all."""

    cpus_per_worker: float = Field(default=1.0, gt=0)
    """Cores of each, which is also how many threads it computes with (one at least)."""

    gpus_per_worker: float = Field(default=0.0, ge=0)
    """GPUs of each; a fraction lets several share one when they encode. Training takes whole ones."""

    attempts: int = Field(default=5, ge=0)
    """Times that training is begun again from its last checkpoint after a worker or node was lost."""

    memory_per_worker: int | None = Field(default=None, ge=1)
    """Bytes of memory to reserve for each; None reserves none."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        for name in ("cpus_per_worker", "gpus_per_worker"):
            if (value := getattr(self, name)) > 1 and value != int(value):
                raise ValueError(f"{name} above 1 must be a whole number, got {value:g}")
        if self.min_workers is not None and self.min_workers > (most := self.train_workers or self.workers):
            raise ValueError(f"min_workers is {self.min_workers}, more than the {most} that train")
        return self
