"""Where the stages of a run compute: in this process, in those that torchrun started, or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.data.readers import read_events
from storerec.llm import processes
from storerec.llm.precision import pick_device
from storerec.llm.progress import Progress

P = TypeVar("P", contravariant=True)
R = TypeVar("R", covariant=True)


class Task(Protocol[P, R]):
    """Work on the pieces of something large. It is pickled to reach other processes, and opened once in each."""

    def open(self) -> Callable[[P], R]:
        """Read what the work needs (a model, say) and give the work."""
        ...


class Engine(Protocol):
    """How the stages use processes. Results are the same on every engine, row for row.

    All engines call the same tasks on the same pieces, and put results together in the order of the pieces.
    """

    def over(self, task: Task[Any, R], pieces: Sequence[Any]) -> Iterator[R]:
        """Results of ``task`` for all pieces, in their order. A piece may be worked on twice, if a process is lost."""
        ...

    def device(self, options: RunOptions) -> str:
        """Type of the device that tasks compute on: ``cpu``, ``cuda`` or ``mps``."""
        ...

    def train(self, training: Callable[[Progress], None], progress: Progress) -> None:
        """Call ``training`` in as many processes as train together; it resumes from its own checkpoints."""
        ...

    def read_events(self, place: str, catalogue: Catalogue, **how: Any) -> Histories:
        """Read events, as :func:`storerec.data.read_events`."""
        ...


class LocalEngine:
    """The program's own process, or, under torchrun or ``accelerate launch``, all of those together.

    There each process takes every so many-th piece and gets the results of all; what is written, the first one writes.
    """

    def over(self, task: Task[Any, R], pieces: Sequence[Any]) -> Iterator[R]:
        """Results of all pieces, one after another; DataError of a piece is raised where its result would be."""
        if processes.world() == 1:
            if len(pieces):
                work = task.open()
                yield from map(work, pieces)
            return
        opened: list[Callable[[Any], R]] = []

        def own(at: int) -> R | None:
            if at >= len(pieces):
                return None
            if not opened:
                opened.append(task.open())
            return opened[0](pieces[at])

        # in rounds: an error ends all at once, and no process keeps the results of all pieces
        for start in range(0, len(pieces), processes.world()):
            found: list[Any] = processes.together(partial(own, start + processes.rank()))
            yield from found[: len(pieces) - start]

    def device(self, options: RunOptions) -> str:
        """Type of this machine's device, as the options choose it."""
        return pick_device(options).type

    def train(self, training: Callable[[Progress], None], progress: Progress) -> None:
        """Call it here; under torchrun every process does."""
        training(progress)

    def read_events(self, place: str, catalogue: Catalogue, **how: Any) -> Histories:
        """Read them here."""
        return read_events(place, catalogue, **how)
