"""One task over many pieces by Ray Data: actors that opened it once, with back-pressure and retries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from storerec.errors import StorerecError
from storerec.pipeline.engine import Task
from storerec.scale.config import RayConfig

_PIECE, _RESULT = "piece", "result"

_FAULTS = (StorerecError, OSError)
"""What the user is told in a line, by any engine: faults of data and settings, and of the machine (a full disk)."""


class _Worker:
    """An actor's state: the opened task. Its errors are results, so that the user's own reach the user as they are."""

    def __init__(self, task: Task[Any, Any], threads: int) -> None:
        limit_threads(threads)
        self._fault: Exception | None = None
        try:
            self._work: Callable[[Any], Any] = task.open()
        except _FAULTS as error:
            self._fault = error

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {_RESULT: _objects([self._result(number, piece) for number, piece in batch[_PIECE]])}

    def _result(self, number: int, piece: Any) -> tuple[int, Any, Exception | None]:
        if self._fault is not None:
            return number, None, self._fault
        try:
            return number, self._work(piece), None
        except _FAULTS as error:
            return number, None, error


def over_pieces(ray: Any, config: RayConfig, task: Task[Any, Any], pieces: Sequence[Any]) -> Iterator[Any]:
    """Results of ``task`` in the order of ``pieces``, as they come; the first piece's error is raised.

    Ray replaces lost actors and calls the pieces that they had again, so that work must give the same when it is done
    twice. Within :func:`~storerec.scale.cluster.connected`.
    """
    if not len(pieces):
        return
    from ray.data import ActorPoolStrategy

    numbered = list(enumerate(pieces))
    blocks = [{_PIECE: one} for one in numbered]
    source = ray.data.from_items(blocks, override_num_blocks=len(blocks))
    workers = min(config.workers, len(pieces))
    options: dict[str, Any] = {"num_cpus": config.cpus_per_worker}
    if config.gpus_per_worker:
        options["num_gpus"] = config.gpus_per_worker
    if config.memory_per_worker:
        options["memory"] = config.memory_per_worker
    done = source.map_batches(
        _Worker,
        fn_constructor_args=(task, max(1, int(config.cpus_per_worker))),
        compute=ActorPoolStrategy(size=workers),
        batch_size=1,
        zero_copy_batch=True,
        **options,
    )
    early: dict[int, Any] = {}  # results that came before those of pieces in front of them
    following = 0
    for row in done.iter_rows():
        number, result, fault = row[_RESULT]
        early[number] = (result, fault)
        while following in early:
            result, fault = early.pop(following)
            if fault is not None:
                raise fault
            yield result
            following += 1


def limit_threads(threads: int) -> None:
    """Let this process compute with so many threads; Ray reserves cores but does not bind processes to them."""
    import torch

    torch.set_num_threads(threads)


def _objects(values: list[Any]) -> Any:
    """Values as an array of objects, which numpy would otherwise take apart."""
    import numpy as np

    out = np.empty(len(values), object)
    out[:] = values
    return out
