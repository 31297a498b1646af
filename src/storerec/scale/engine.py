"""The stages of a run on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.llm.progress import Progress
from storerec.pipeline.engine import Task
from storerec.scale.cluster import connected
from storerec.scale.config import RayConfig
from storerec.scale.mapping import over_pieces

R = TypeVar("R")


class RayEngine:
    """Workers of a Ray cluster; an :class:`~storerec.pipeline.engine.Engine`.

    The run folder must lie where all nodes see it under the same path. Make one with :meth:`started`.

    Attributes
    ----------
    config: how much of the cluster to use.
    """

    def __init__(self, ray: Any, config: RayConfig) -> None:
        self._ray, self.config = ray, config

    @classmethod
    @contextmanager
    def started(cls, config: RayConfig) -> Iterator[RayEngine]:
        """Be connected to a cluster, or start one on this machine, for the length of a block.

        Raises
        ------
        MissingExtraError: Ray is not installed.
        ConfigError: there is no cluster at the address, or it has not what is asked for.
        """
        with connected(config) as ray:
            yield cls(ray, config)

    def over(self, task: Task[Any, R], pieces: Sequence[Any]) -> Iterator[R]:
        """Results of all pieces in their order, by actors of Ray Data that opened the task once."""
        return over_pieces(self._ray, self.config, task, pieces)

    def device(self, options: RunOptions) -> str:
        """Type of the workers' device: a GPU where each was given one, or a part of one."""
        if options.device != "auto":
            return options.device
        return "cuda" if self.config.gpus_per_worker else "cpu"

    def train(self, training: Callable[[Progress], None], progress: Progress) -> None:
        """Call ``training`` in the workers of a Ray Train run, which resumes when one is lost."""
        from storerec.scale.training import train_on_ray

        workers = self.config.train_workers or self.config.workers
        train_on_ray(self.config.model_copy(update={"workers": workers}), training, progress)

    def read_events(self, place: str, catalogue: Catalogue, **how: Any) -> Histories:
        """Read events by Ray Data; arguments and errors as :func:`storerec.data.read_events`."""
        from storerec.scale.reading import read_events

        return read_events(self.config, place, catalogue, **how)
