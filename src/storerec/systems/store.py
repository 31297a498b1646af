"""The language model over codes as a system: STORE (paper, 3.3), and what differs from it in other parts only."""

from __future__ import annotations

import copy

from storerec.codes import CodeTable
from storerec.config import RunOptions
from storerec.llm.progress import Progress
from storerec.recommender import BeamSearch, Decoder, Recommender, SearchConfig
from storerec.systems.generative import GenerativeSystem


class StoreSystem(GenerativeSystem):
    """Generates the next item's codes with a :class:`Recommender`.

    Parameters
    ----------
    model: the trained recommender.
    table: the code table its tree was built from.
    search: how to search.
    options: device and arithmetic.
    name: what reports call it; other systems (P5, TIGER with the language model, LC-Rec) are this class with other
        items' codes, weights and tasks.
    """

    def __init__(
        self,
        model: Recommender,
        table: CodeTable,
        search: SearchConfig,
        options: RunOptions,
        *,
        progress: Progress | None = None,
        name: str = "store",
    ) -> None:
        self.decoder = Decoder.under(model, options)
        super().__init__(name, self.decoder, table, search, model.settings.normaliser, progress=progress)

    def grown(self, table: CodeTable) -> StoreSystem:
        """A system for the items of ``table``, by which the model was extended; it shares the model's layers."""
        other = copy.copy(self)
        other.decoder = self.decoder.grown()
        other._search = BeamSearch(other.decoder, table, self._search.config, self._search.normaliser)
        other._n_items = len(table)
        return other
