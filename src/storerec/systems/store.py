"""STORE as a system: the trained recommender behind the protocol all systems share (paper, 3.3)."""

from __future__ import annotations

import numpy as np

from storerec.codes import CodeTable
from storerec.config import RunOptions
from storerec.data.histories import Histories
from storerec.llm.precision import pick_dtype
from storerec.llm.progress import Progress
from storerec.recommender import BeamSearch, Decoder, Recommender, SearchConfig
from storerec.systems.base import Exclusions, RankedLists


class StoreSystem:
    """Generates the next item's codes by conditional beam search.

    Parameters
    ----------
    model: the trained recommender.
    table: the code table its tree was built from.
    search: how to search.
    options: device and arithmetic.
    """

    name = "store"
    own_batches = True  # the search cuts users into batches: given all at once, one progress bar shows them all

    def __init__(
        self,
        model: Recommender,
        table: CodeTable,
        search: SearchConfig,
        options: RunOptions,
        *,
        progress: Progress | None = None,
    ) -> None:
        self.progress = progress or Progress(enabled=False)
        dtype = pick_dtype(options.inference_dtype, model.backbone.device)
        self._search = BeamSearch(Decoder(model, dtype=dtype), table, search, model.settings.normaliser)
        self._n_items = len(table)

    def recommend(self, histories: Histories, k: int, *, exclude: Exclusions) -> RankedLists:
        """Rank the best ``k`` items for each user by the log-probability of their codes (plus their bucket share)."""
        banned = np.flatnonzero(~exclude.allowed(self._n_items)) if exclude.items is not None else None
        items, scores = self._search(histories, k, own=exclude.history, banned=banned, progress=self.progress)
        return RankedLists(items, scores)
