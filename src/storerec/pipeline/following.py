"""A STORE kept up with a log of changes that several write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from storerec.bundle.journal import Change, ChangeLog
from storerec.pipeline.changes import Standing, encoded_anew, let_in, replay
from storerec.pipeline.store import STORE
from storerec.pipeline.waiting import plan_waiting

T = TypeVar("T")


class Follower:
    """Does what others have written to a STORE, and writes what is done to it.

    A change is planned on all that was written before, and written only if that is still all: whoever was overtaken
    plans anew. So changes are in one order for all, nobody waits while another plans, and one that dies in the middle
    leaves nothing locked.

    Parameters
    ----------
    store: as the bundle has it.
    training: identity of the training of its codes.

    Attributes
    ----------
    done: number of the last change that is done.
    """

    def __init__(self, store: STORE, log: ChangeLog, training: str) -> None:
        self.store, self._log, self._training = store, log, training
        self.done, self._version, self._opened = 0, -1, False
        self._waiting: Mapping[str, Standing] = {}
        self._aside = dict[str, Standing]()  # of these, those that cannot be let in as they are
        self.catch_up()

    def catch_up(self) -> None:
        """Do what others have written since; what has to be encoded anew is written down."""
        version = self._log.version()
        if version == self._version:
            return
        self._take_in()
        if self._open():
            self._encode_waiting()
        self._version = version

    def write(self, plan: Callable[[], T], changes: Callable[[T], Sequence[Change]], do: Callable[[T], object]) -> T:
        """Write down the changes of what is planned, then do it; gives what was planned last.

        Raises
        ------
        Exception: what ``plan`` raises, or the log; then nothing is written.
        """
        while True:
            self.catch_up()
            planned = plan()
            written = [*changes(planned)]
            added = {change.item_id for change in written if change.kind == "add"}
            back = [item for item in self._waiting if item in added and self._waiting[item].removed]
            written += [Change("restore", item, training=self._training) for item in back]
            number = self._log.write(written, after=self.done)
            if number is not None:
                break
            self._version = -1
        self._do(lambda: do(planned), number)
        self._waiting = {item: one for item, one in self._waiting.items() if item not in added}
        return planned

    def _do(self, change: Callable[[], object], number: int) -> None:
        """Do what stands in the log up to ``number``; where that fails, the next call does it from there."""
        try:
            change()
        except BaseException:
            self._version = -1
            raise
        self.done = number

    def _take_in(self) -> None:
        changes = self._log.since(self.done)
        self._waiting = replay(self.store, changes, self._training, self._waiting, first=not self._opened)
        self.done = max([self.done, *(change.number for change in changes)])
        self._opened = True

    def _open(self) -> dict[str, Standing]:
        """Items that wait, without those that could not be let in and are as they were then."""
        return {item: one for item, one in self._waiting.items() if self._aside.get(item) != one}

    def _encode_waiting(self) -> None:
        """Encode items of other trainings, but for those that another process was faster with."""
        read: dict[str, np.ndarray] = {}
        with self._log.turn(f"encode {self._training}"):
            self._take_in()
            while waiting := self._open():
                addition, aside = plan_waiting(self.store, waiting, read)
                if addition is not None:
                    number = self._log.write(encoded_anew(addition, self._training), after=self.done)
                    if number is None:
                        self._take_in()
                        continue
                    self._do(lambda: let_in(self.store, addition, waiting), number)  # noqa: B023 - called at once
                kept = {item: one for item, one in self._waiting.items() if item in aside or item not in waiting}
                self._waiting, self._aside = kept, {item: kept[item] for item in kept}
