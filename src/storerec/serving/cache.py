"""Answers that were given before."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

A = TypeVar("A")


class AnswerCache(Generic[A]):
    """The latest answers by what was asked, all of one version of the catalogue; for one thread. Versions only grow.

    Parameters
    ----------
    size: most answers kept; the one longest unused goes first.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._version: tuple[int, int] = (-1, -1)
        self._answers: OrderedDict[Hashable, A] = OrderedDict()

    def __len__(self) -> int:
        """Count the answers."""
        return len(self._answers)

    def get(self, version: tuple[int, int], asked: Hashable) -> A | None:
        """The answer to what was asked, where there is one of this version."""
        if version != self._version or asked not in self._answers:
            return None
        self._answers.move_to_end(asked)
        return self._answers[asked]

    def put(self, version: tuple[int, int], asked: Hashable, answer: A) -> None:
        """Keep an answer; those of an older version are forgotten, and one of an older version is not kept."""
        if version < self._version:
            return
        if version > self._version:
            self._version = version
            self._answers.clear()
        self._answers[asked] = answer
        self._answers.move_to_end(asked)
        while len(self._answers) > self._size:
            self._answers.popitem(last=False)
