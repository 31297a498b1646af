"""A run's lists for held-out users, by whichever process is free: what an evaluation measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from storerec.data.histories import Histories
from storerec.llm.progress import Progress
from storerec.pipeline.engine import Engine
from storerec.pipeline.folder import RunFolder
from storerec.pipeline.measuring import held_out
from storerec.systems.base import Exclusions, RankedLists
from storerec.systems.store import StoreSystem

_USERS = 500
"""Users of a piece; the search cuts them into batches of near-equal length."""


@dataclass(frozen=True)
class RankUsers:
    """Ranks the catalogue for users of a run's held-out cases, given as slices of them."""

    run: RunFolder
    which: str
    k: int
    exclude_history: bool

    def open(self) -> Callable[[slice], RankedLists]:
        """Load the trained model."""
        run, exclude = self.run, Exclusions(history=self.exclude_history)
        system = StoreSystem(run.recommender, run.table, run.config.search, run.options)
        histories = held_out(run.split, self.which).histories

        def rank(part: slice) -> RankedLists:
            return system.recommend(histories.select(np.arange(part.start, part.stop)), self.k, exclude=exclude)

        return rank


class RunLists:
    """STORE of a run as a system whose lists an engine makes, for the held-out users alone.

    Whose batch a user is in depends on the piece of :data:`_USERS` users alone, so that lists are the same on every
    engine to the last digit.
    """

    name = "store"
    own_batches = True  # the engine cuts the users into pieces

    def __init__(self, run: RunFolder, which: str, engine: Engine, progress: Progress) -> None:
        self._run, self._which, self._engine, self._progress = run, which, engine, progress

    def recommend(self, histories: Histories, k: int, *, exclude: Exclusions) -> RankedLists:
        """Lists of the best ``k`` items; ``histories`` must be those of the held-out cases, in their order."""
        users = len(histories)
        assert users == len(held_out(self._run.split, self._which))
        task = RankUsers(self._run, self._which, k, exclude.history)
        pieces = [slice(start, min(start + _USERS, users)) for start in range(0, users, _USERS)]
        bar = self._progress.start("recommending", users, unit="user")
        found = []
        for lists in self._engine.over(task, pieces):
            found.append(lists)
            self._progress.advance(bar, len(lists))
        self._progress.finish(bar)
        return RankedLists(np.concatenate([one.items for one in found]), np.concatenate([one.scores for one in found]))
