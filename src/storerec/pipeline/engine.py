"""Where the stages of a run compute: in this process, in those that torchrun started, or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.data.readers import read_events
from storerec.llm import processes
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
        own = pieces[processes.rank() :: processes.world()]
        found = processes.together(lambda: [work(piece) for work in [task.open()] for piece in own])
        for number in range(len(pieces)):
            yield found[number % processes.world()][number // processes.world()]

    def train(self, training: Callable[[Progress], None], progress: Progress) -> None:
        """Call it here; under torchrun every process does."""
        training(progress)

    def read_events(self, place: str, catalogue: Catalogue, **how: Any) -> Histories:
        """Read them here."""
        return read_events(place, catalogue, **how)
