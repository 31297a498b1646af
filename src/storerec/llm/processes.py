"""The processes that compute together: those torchrun, ``accelerate launch`` or Ray Train started, or this one alone.

Who starts them sets ``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR`` and ``MASTER_PORT``; in a process without these all of
this does nothing. What is called here, all processes must call, in the same order.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist

from storerec.errors import LostProcessError

T = TypeVar("T")

_LONGEST = timedelta(days=30)
"""How long a process waits for another, which may be at work on its own for hours. That one has died is noticed by its
closed connection, or by who started it."""


def world() -> int:
    """How many there are; joins them at the first call."""
    if not dist.is_available():
        return 1
    if not dist.is_initialized():
        if int(os.environ.get("WORLD_SIZE", "1")) <= 1 or not {"RANK", "MASTER_ADDR"} <= set(os.environ):
            return 1
        _join()
    return dist.get_world_size()


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if world() > 1 else 0


def is_first() -> bool:
    """Whether this is the one that writes files and shows bars."""
    return rank() == 0


def barrier() -> None:
    """Wait until all have come here."""
    gathered(None)


def gathered(value: T) -> list[T]:
    """The values of all, in the order of their ranks; they are pickled between processes of one program only."""
    if world() == 1:
        return [value]
    found: list[Any] = [None] * world()
    with noticing_loss():
        dist.all_gather_object(found, value, group=_talk(dist.group.WORLD))
    return found


def broadcast(value: T) -> T:
    """The first one's value, in all."""
    if world() == 1:
        return value
    box: list[Any] = [value]
    with noticing_loss():
        dist.broadcast_object_list(box, src=0, group=_talk(dist.group.WORLD))
    return box[0]


def summed(values: Sequence[int]) -> list[int]:
    """Sums over all, of each of ``values``."""
    if world() == 1:
        return list(values)
    sums = torch.tensor(values, dtype=torch.int64)
    with noticing_loss():
        dist.all_reduce(sums, group=_talk(dist.group.WORLD))
    return sums.tolist()


def together(work: Callable[[], T]) -> list[T]:
    """What ``work`` gives in each, in the order of ranks; an error in one is raised in all, so that none waits."""
    fault: BaseException | None = None
    result: Any = None
    try:
        result = work()
    except Exception as error:
        fault = error
    found = gathered((result, fault))
    for _, one in found:
        if one is not None:
            raise one
    return [value for value, _ in found]


def by_first(work: Callable[[], T]) -> T:
    """What ``work`` gives in the first, in all; the others do not call it. An error of it is raised in all."""
    return together(lambda: work() if is_first() else None)[0]  # type: ignore[return-value]


def leave() -> None:
    """End being together, if anyone joined; what waits for others would otherwise be told at exit."""
    if dist.is_available() and dist.is_initialized():
        _talk.cache_clear()
        gc.collect()  # models that hold the group keep its threads alive
        dist.destroy_process_group()


def end(code: int) -> NoReturn:
    """End this process, one of several, at once.

    At an ordinary end of the interpreter a thread of gloo's that still lives ends the process with SIGABRT ("terminate
    called without an active exception"; seen once in some twenty ends, torch 2.13), when all its work is done and
    written, and who started the processes calls that a failure.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextmanager
def noticing_loss() -> Iterator[None]:
    """Raise LostProcessError where something done together fails because another process has ended."""
    try:
        yield
    except RuntimeError as error:
        # torch raises a plain RuntimeError for gloo, whose text names the file of gloo's that noticed
        broken = isinstance(error, dist.DistError) or "gloo" in str(error) or "Connection closed" in str(error)
        if world() == 1 or not broken:
            raise
        raise LostProcessError(
            f"process {rank()} of {world()} lost another one; what ended that one stands in its own message, or it was "
            "killed (out of memory?)"
        ) from error


def local_device() -> torch.device:
    """The GPU of this process, where each has one of those of its machine."""
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def _join() -> None:
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(local_device())
    # both, as what is said here is said by the processors, and a run may compute on them although there are GPUs
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=_LONGEST)


@cache
def _talk(everyone: Any) -> Any:
    """The group for what is no tensor of the training: its collectives must not need a GPU."""
    backends = str(dist.get_backend_config(everyone))
    return everyone if "cpu:gloo" in backends else dist.new_group(backend="gloo", timeout=_LONGEST)
