"""Any model that generates an item's codes one by one, as a system: a step decoder under conditional beam search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from storerec.codes import CodeTable
from storerec.data.histories import Histories
from storerec.llm.progress import Progress
from storerec.recommender.config import SearchConfig
from storerec.recommender.search import BeamSearch, StepDecoder
from storerec.systems.base import Exclusions, RankedLists


class GenerativeSystem:
    """Generates the next item's codes by conditional beam search.

    With the constraint ``soft`` lists may be shorter than asked for: tuples that name no item are dropped.

    Parameters
    ----------
    name: heads its column in reports.
    decoder: the trained model, step by step.
    table: the code table its tree was built from.
    search: how to search.
    normaliser: over what a step's probabilities are normalised where ``search`` does not say.
    """

    own_batches = True  # the search cuts users into batches: given all at once, one progress bar shows them all

    def __init__(
        self,
        name: str,
        decoder: StepDecoder,
        table: CodeTable,
        search: SearchConfig,
        normaliser: str,
        *,
        progress: Progress | None = None,
    ) -> None:
        self.name = name
        self.progress = progress or Progress(enabled=False)
        self._search = BeamSearch(decoder, table, search, normaliser)
        self._n_items = len(table)

    @property
    def normaliser(self) -> str:
        """Over what the probabilities of a step are normalised."""
        return self._search.normaliser

    def recommend(self, histories: Histories, k: int, *, exclude: Exclusions) -> RankedLists:
        """Rank the best ``k`` items for each user by the log-probability of their codes (plus their bucket share)."""
        banned = np.flatnonzero(~exclude.allowed(self._n_items)) if exclude.items is not None else None
        items, scores = self._search(histories, k, own=exclude.history, banned=banned, progress=self.progress)
        return RankedLists(items, scores)

    def recommend_each(
        self, histories: Histories, k: int, each: Sequence[np.ndarray], banned: np.ndarray
    ) -> RankedLists:
        """As :meth:`recommend`, without rows of each user, and without those ``banned``: rows, or (items,) bool."""
        items, scores = self._search(histories, k, banned=banned, each=each, progress=self.progress)
        return RankedLists(items, scores)
