"""What runs on the worker thread: the model, the catalogue, and all that touches them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import polars as pl

from storerec.data.catalogue import Catalogue
from storerec.errors import DataError, StorerecError
from storerec.pipeline.answers import Explanation
from storerec.pipeline.live import Live
from storerec.pipeline.requests import RecommendAnswer, RecommendRequest, ScoreAnswer, ScoreRequest
from storerec.serving import insight
from storerec.serving.batcher import Kind
from storerec.serving.config import ServingConfig
from storerec.serving.refusals import UnknownItemError

J = TypeVar("J")
R = TypeVar("R")


@dataclass(frozen=True)
class NewItem:
    """An item to add: its id, and texts by attribute. Others stay as they are, or empty."""

    item_id: str
    text: Mapping[str, str]


@dataclass(frozen=True)
class ItemStatus:
    """What became of an item that was added or removed, and its codes where it has just got them."""

    item_id: str
    status: str
    codes: tuple[int, ...] = ()


class Worker:
    """The model behind a service. All methods but :attr:`version` and :attr:`items` are for one thread.

    Attributes
    ----------
    version: grows with every change of what recommendations depend on; may be read from other threads.
    items: items in the catalogue.
    """

    def __init__(self) -> None:
        self._live: Live | None = None
        self._loads = 0
        self.version, self.items = (0, 0), 0

    def kinds(self, config: ServingConfig) -> dict[str, Kind]:
        """The kinds of work it does. Recommending and scoring gather requests, the others come one by one."""
        wait = config.max_wait_ms / 1000
        return {
            "recommend": Kind(self.recommend, config.max_batch, wait),
            "score": Kind(self.score, config.max_batch, wait),
            "add": Kind(_each(self.add)),
            "remove": Kind(_each(self.remove)),
            "explain": Kind(_each(lambda asked: self.explain(*asked))),
            "search": Kind(_each(lambda asked: self.search(*asked))),
            "why": Kind(_each(lambda asked: insight.why(self.live, *asked))),
            "map": Kind(_each(lambda asked: insight.map_of(self.live, *asked))),
            "about": Kind(_each(lambda _: insight.about(self.live))),
            "swap": Kind(_each(self.swap)),
            "look": Kind(_each(lambda _: self.look())),
        }

    @property
    def live(self) -> Live:
        """What answers."""
        if self._live is None:
            raise RuntimeError("nothing is loaded yet")
        return self._live

    def swap(self, live: Live | None) -> None:
        """Answer from ``live`` from now on; None closes what there is. An error leaves all as it was."""
        if live is not None:
            live.version()  # does what was changed while it was loaded
        old, self._live = self._live, live
        self._loads += 1
        if live is not None:
            self._note()
        if old is not None:
            old.close()

    def look(self) -> None:
        """See what other processes changed."""
        self.live.version()
        self._note()

    def recommend(
        self, requests: Sequence[RecommendRequest]
    ) -> list[tuple[tuple[int, int], RecommendAnswer] | StorerecError]:
        """Answers with the version they are of."""
        answers = self.live.recommend(requests)
        self._note()
        return [one if isinstance(one, StorerecError) else (self.version, one) for one in answers]

    def score(self, requests: Sequence[ScoreRequest]) -> list[ScoreAnswer | StorerecError]:
        """Answers, or the error of a request."""
        return self.live.score(requests)

    def add(self, items: Sequence[NewItem]) -> list[ItemStatus]:
        """Add items or change their texts, and write that down.

        Raises
        ------
        DataError: an item has no text or names an attribute the catalogue lacks. Nothing is added then.
        """
        try:
            return _statuses(self.live.add_items(lambda known: _catalogue(items, known)))
        finally:
            self._note()

    def remove(self, item_id: str) -> ItemStatus:
        """Take an item out of all lists to come, and write that down; UnknownItemError where there never was one."""
        try:
            return _statuses(self.live.remove_items([item_id]))[0]
        except DataError as error:
            raise UnknownItemError(str(error)) from None
        finally:
            self._note()

    def explain(self, item_id: str, neighbours: int) -> Explanation:
        """What the codes say about an item; UnknownItemError for one that is unknown or removed."""
        try:
            if not self.live.removed(item_id):
                return self.live.explain(item_id, neighbours=neighbours)
        except DataError as error:
            raise UnknownItemError(str(error)) from None
        raise UnknownItemError(f"item '{item_id}' was removed")

    def search(self, text: str, limit: int) -> list[tuple[str, str]]:
        """Ids and titles of items whose titles contain ``text``."""
        return self.live.search(text, limit)

    def _note(self) -> None:
        self.version = (self._loads, self.live.done)
        self.items = len(self.live.store.catalogue)


def _each(work: Callable[[J], R]) -> Callable[[list[J]], list[R]]:
    """Work on one job as work on a batch."""
    return lambda jobs: [work(job) for job in jobs]


def _catalogue(items: Sequence[NewItem], like: Catalogue) -> Catalogue:
    """Items as a catalogue with the attributes of ``like``; those they do not name are as ``like`` has them."""
    names, rows = like.attributes, like.rows([item.item_id for item in items])
    texts = []
    for item, row in zip(items, rows.tolist(), strict=True):
        other = next((name for name in item.text if name not in names), None)
        if other is not None:
            raise DataError(f"item '{item.item_id}': no attribute '{other}'; the catalogue has {', '.join(names)}")
        stored = like.frame.row(row, named=True) if row >= 0 else {}
        texts.append({name: item.text.get(name, stored.get(name, "")) for name in names})
        if not any(text.strip() for text in texts[-1].values()):
            raise DataError(f"item '{item.item_id}': all of its texts are empty")
    columns = {name: [text[name] for text in texts] for name in names}
    frame = pl.DataFrame({"item_id": [item.item_id for item in items]} | columns)
    return Catalogue.from_frame(frame, text=names, title=like.title_attribute)


def _statuses(frame: pl.DataFrame) -> list[ItemStatus]:
    return [ItemStatus(row["item_id"], row["status"], tuple(row.get("codes") or ())) for row in frame.to_dicts()]
