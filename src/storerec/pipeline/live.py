"""A STORE that changes while it is used: each change is on disk before it is answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from storerec.bundle.journal import Change, ChangeLog
from storerec.codes import CodebookFit
from storerec.codes.plane import Plane
from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.errors import DataError, StorerecError
from storerec.llm.progress import Progress
from storerec.pipeline.additions import apply, planned, read_items_text
from storerec.pipeline.answers import Explanation
from storerec.pipeline.bundling import load_unchanged
from storerec.pipeline.changes import changes_of
from storerec.pipeline.following import Follower
from storerec.pipeline.requests import (
    RecommendAnswer,
    RecommendRequest,
    ScoreAnswer,
    ScoreRequest,
    recommend_all,
    score_all,
)
from storerec.pipeline.store import STORE
from storerec.pipeline.why import Why, why


class Live:
    """A trained STORE with the journal of changes beside its bundle: items come and go while it answers.

    What another process adds to or removes from the same bundle is seen at the next call. Not for several threads at a
    time. Make one with :meth:`open`.

    Attributes
    ----------
    store: the STORE as it is now.
    """

    def __init__(self, store: STORE, log: ChangeLog, training: str) -> None:
        self.store, self._log, self._training = store, log, training
        self._following = Follower(store, log, training)
        self._titles: tuple[Catalogue | None, pl.Series] = (None, pl.Series(dtype=pl.String))
        self._catch_up()

    @classmethod
    def open(
        cls,
        folder: Path | str,
        *,
        backbone: str | None = None,
        options: RunOptions | None = None,
        log: ChangeLog | None = None,
    ) -> Live:
        """Open a bundle, or a run folder's, with all that was changed since it was written.

        Items that were added to an earlier training of the folder are encoded anew, and journalled so.

        Parameters
        ----------
        log: what has the bundle's journal; None opens the file beside the bundle.

        Raises
        ------
        BundleError: as :meth:`STORE.load`.
        """
        store, journal, training = load_unchanged(Path(folder), backbone=backbone, options=options or RunOptions())
        return cls(store, log or journal, training)

    @property
    def done(self) -> int:
        """Number of the last change that the latest answer knew of."""
        return self._following.done

    def recommend(self, requests: Sequence[RecommendRequest]) -> list[RecommendAnswer | StorerecError]:
        """Answer several users in one batch; a bad request becomes its own error, and the others are answered."""
        self._catch_up()
        return recommend_all(self.store, requests)

    def score(self, requests: Sequence[ScoreRequest]) -> list[ScoreAnswer | StorerecError]:
        """Score several users' candidates; a bad request becomes its own error, and the others are answered."""
        self._catch_up()
        return score_all(self.store, requests)

    def add_items(
        self, items: Catalogue | Callable[[Catalogue], Catalogue], progress: Progress | None = None
    ) -> pl.DataFrame:
        """As :meth:`STORE.add_items`; the items are on disk when it returns.

        Others may add to the same bundle while the texts are read.

        Parameters
        ----------
        items: or what makes them, always the same ones, of the catalogue as it is now: for items that keep some of
            their texts. It may be called several times.

        Raises
        ------
        ConfigError, DataError: as there; nothing is added then.
        BundleError: the journal cannot be written; nothing is added then.
        """
        self._catch_up()
        given = items if callable(items) else lambda _: items
        reading = read_items_text(self.store, given(self.store.catalogue), self.store.encoding(), progress)
        addition = self._following.write(
            lambda: planned(self.store, replace(reading, items=given(self.store.catalogue))),
            lambda addition: changes_of(addition, self._training),
            lambda addition: apply(self.store, addition),
        )
        return addition.frame()

    def remove_items(self, ids: Sequence[str]) -> pl.DataFrame:
        """As :meth:`STORE.remove_items`: a frame of ``item_id`` and ``status``, ``removed`` or, before, ``absent``.

        Raises
        ------
        DataError: an id is unknown; nothing is removed then.
        BundleError: the journal cannot be written; nothing is removed then.
        """
        ids = list(dict.fromkeys(ids))
        gone = self._following.write(
            lambda: self.store.removed[self._known(ids)].tolist(),
            lambda gone: [Change("remove", one) for one, was in zip(ids, gone, strict=True) if not was],
            lambda _: self.store.remove_items(ids),
        )
        status = ["absent" if was else "removed" for was in gone]
        return pl.DataFrame({"item_id": ids, "status": status}, schema=dict.fromkeys(("item_id", "status"), pl.String))

    def version(self) -> int:
        """Number of the last change, by any process; what was answered under another number may be out of date."""
        self._catch_up()
        return self.done

    def codebook_fit(self) -> CodebookFit | None:
        """How the codebook fits the items added under this training; None where there are none or it is not known."""
        self._catch_up()
        told = [one.distances for one in self._log.since() if one.training == self._training]
        distances = np.array([one for one in told if one is not None])
        spread = self.store.clusterer.spread
        return CodebookFit.of(distances, spread) if len(distances) and spread is not None else None

    def removed(self, item_id: str) -> bool:
        """Whether an item was taken out of the lists; DataError for an unknown one."""
        self._catch_up()
        return bool(self.store.removed[self._known([item_id])[0]])

    def explain(self, item_id: str, *, neighbours: int = 5) -> Explanation:
        """What the codes say about an item; DataError for an unknown one."""
        self._catch_up()
        return self.store.explain(item_id, neighbours=neighbours)

    def why(self, history: Sequence[str], item_id: str, *, others: int = 4) -> Why:
        """How a history leads to an item; DataError for an unknown item. Unknown ids of the history are left out."""
        self._catch_up()
        rows = self.store.catalogue.rows(history)
        return why(self.store, rows[rows >= 0], int(self._known([item_id])[0]), others=others)

    def places(self) -> np.ndarray:
        """Places of all items on a map of the catalogue, (items, 2), by catalogue row."""
        self._catch_up()
        return self._plane.of(self.store.table.codes)

    @cached_property
    def _plane(self) -> Plane:
        return Plane.fit(self.store.clusterer, self.store.table.codes)

    def search(self, text: str, limit: int = 20) -> list[tuple[str, str]]:
        """Ids and titles of items whose title holds ``text``, whatever its case; those that begin with it first."""
        self._catch_up()
        titles, wanted = self._lowered(), text.strip().lower()
        found = titles.str.contains(wanted, literal=True).to_numpy() & ~self.store.removed
        rows = np.flatnonzero(found)
        first = titles.str.starts_with(wanted).to_numpy()[rows]
        rows = rows[np.argsort(~first, kind="stable")][:limit].tolist()
        return [(self.store.catalogue.ids[row], self.store.catalogue.titles[row]) for row in rows]

    def _lowered(self) -> pl.Series:
        """Titles in lower case, made anew when the catalogue is another one."""
        if self._titles[0] is not self.store.catalogue:
            self._titles = self.store.catalogue, self.store.catalogue.titles.str.to_lowercase()
        return self._titles[1]

    def close(self) -> None:
        """Let go of the journal."""
        self._log.close()

    def _catch_up(self) -> None:
        self._following.catch_up()

    def _known(self, ids: Sequence[str]) -> np.ndarray:
        rows = self.store.catalogue.rows(ids)
        if (rows < 0).any():
            raise DataError(f"no item '{ids[int(np.argmin(rows))]}' in the catalogue")
        return rows
