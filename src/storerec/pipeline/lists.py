"""A run's lists for held-out users, by whichever process is free: what an evaluation measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from storerec.data.histories import Histories
from storerec.llm.progress import Progress
from storerec.pipeline.engine import Engine
from storerec.pipeline.folder import RunFolder
from storerec.systems.base import Exclusions, RankedLists
from storerec.systems.store import StoreSystem

_USERS = 500
"""Users of a piece; the search cuts them into batches of near-equal length."""


@dataclass(frozen=True)
class RankUsers:
    """Ranks the catalogue for users, whose histories come with the pieces: a worker need not read all of them."""

    run: RunFolder
    k: int
    exclude: Exclusions

    def open(self) -> Callable[[Histories], RankedLists]:
        """Load the trained model."""
        run = self.run
        system = StoreSystem(run.recommender, run.table, run.config.search, run.options)
        return lambda histories: system.recommend(histories, self.k, exclude=self.exclude)


class RunLists:
    """STORE of a run as a system whose lists an engine makes.

    Whose batch a user is in depends on the piece of :data:`_USERS` users alone, so that lists are the same on every
    engine to the last digit.
    """

    name = "store"
    own_batches = True  # the engine cuts the users into pieces

    def __init__(self, run: RunFolder, engine: Engine, progress: Progress) -> None:
        self._run, self._engine, self._progress = run, engine, progress

    def recommend(self, histories: Histories, k: int, *, exclude: Exclusions) -> RankedLists:
        """Lists of the best ``k`` items of each user."""
        users = len(histories)
        task = RankUsers(self._run, k, exclude)
        pieces = [histories.select(np.arange(s, min(s + _USERS, users))) for s in range(0, users, _USERS)]
        bar = self._progress.start("recommending", users, unit="user")
        found = []
        for lists in self._engine.over(task, pieces):
            found.append(lists)
            self._progress.advance(bar, len(lists))
        self._progress.finish(bar)
        return RankedLists(np.concatenate([one.items for one in found]), np.concatenate([one.scores for one in found]))
