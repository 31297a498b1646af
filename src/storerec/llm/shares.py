"""The part of a batch that one of several processes computes, and what its means count for in those of the whole.

A loss is a mean over targets, and shares of a batch have different numbers of them, so the average of the processes'
losses is not the loss of the batch. Each mean is therefore multiplied by its targets times the processes, over the
targets of all: the average of such losses, and of their gradients, is that of one process with the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset

from storerec.llm import processes

COUNTS = "share_counts"
"""Key of a batch that says whether its targets count: False where a process stands in with a sample of another's."""

_sharing: ContextVar[bool | None] = ContextVar("sharing", default=None)


class Shares(Dataset):
    """Batches of ``dataset`` of which this process makes its share: every so many-th sample.

    Shares differ by one sample at most. Samples of a batch are sorted by length, so strides are equally long, too.
    Where there are fewer samples than processes, one without takes the first sample and does not count it: it takes
    part in what the processes do together, and trains the same parameters.
    """

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], dict[str, Any]]) -> None:
        self.dataset, self.collate = dataset, collate

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, batch: Sequence[int]) -> dict[str, Any]:
        """The share of the whole batch with samples ``batch``, collated."""
        own = batch[processes.rank() :: processes.world()]
        return self.collate([self.dataset[index] for index in own or batch[:1]]) | {COUNTS: bool(own)}


class Part(NamedTuple):
    """What a mean of this process counts for.

    Attributes
    ----------
    weight: what to multiply the mean by; 1 in one process.
    total: targets of all processes.
    """

    weight: float
    total: int


@contextmanager
def sharing(counts: bool) -> Iterator[None]:
    """Within the block losses are those of a share; all processes must be in it, and compute the same losses."""
    token = _sharing.set(counts)
    try:
        yield
    finally:
        _sharing.reset(token)


def parts(*targets: int) -> list[Part]:
    """What means over so many ``targets`` of this process's share count for; outside :func:`sharing`, 1 each."""
    counts = _sharing.get()
    if counts is None:
        return [Part(1.0, one) for one in targets]
    own = [one if counts else 0 for one in targets]
    return [
        Part(one * processes.world() / total if total else 0.0, total)
        for one, total in zip(own, processes.summed(own), strict=True)
    ]


def agreed(one: bool) -> bool:
    """Whether all processes say so; outside :func:`sharing`, what this one says.

    For choices between ways that run the layers another number of times: sharded layers are gathered at each pass, and
    who runs them once would leave one who runs them twice waiting for ever.
    """
    if _sharing.get() is None:
        return one
    return processes.summed([int(one)])[0] == processes.world()


def whole_mean(mean: torch.Tensor, targets: int) -> torch.Tensor:
    """``mean`` over this process's ``targets``, multiplied by what it counts for; of no targets any number will do."""
    return mean * parts(targets)[0].weight
