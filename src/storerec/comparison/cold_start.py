"""How well items are recommended that no training saw: hidden from it, then added by the path that users take."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.data.cold_items import ColdItems, hide_items
from storerec.data.histories import Histories
from storerec.data.splits import Cases
from storerec.errors import DataError
from storerec.evaluation import Evaluation, EvaluationConfig, evaluate
from storerec.evaluation.document import Document, Entry, Section, TextTable
from storerec.evaluation.markdown import markdown
from storerec.evaluation.report import printed
from storerec.llm.progress import Progress
from storerec.pipeline import STORE, Live, RunFolder, StoreConfig, fit
from storerec.recommender.training import sample_cases
from storerec.storage import atomic, write_json
from storerec.systems.base import Exclusions, RankedLists, System
from storerec.systems.content import ContentSimilarity
from storerec.systems.markov import Markov
from storerec.systems.popularity import Popularity
from storerec.systems.sasrec import SasRec, train_sasrec
from storerec.systems.sasrec_model import SasRecConfig
from storerec.tokenizer import encode_items


@dataclass(frozen=True)
class ColdStart:
    """How items fare that no training saw, and what other items lose by them.

    Attributes
    ----------
    whole, among_new: users whose next item is new, among all items and among the new ones; the same users and targets.
    known: users whose next item is an old one, among all items, so that what new ones cost is seen.
    codebook_fit: how the codebook fits the new items (:class:`storerec.codes.CodebookFit`), None if it is not known.
    notes: what was hidden, and how.
    """

    whole: Evaluation
    among_new: Evaluation
    known: Evaluation
    codebook_fit: dict[str, Any] | None
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """All figures, as JSON values."""
        parts = {name: one.to_json() for name, one in (("all_items", self.whole), ("new_items_only", self.among_new))}
        parts["known_targets"] = self.known.to_json()
        return parts | {"codebook_fit": self.codebook_fit, "notes": list(self.notes)}

    def parts(self) -> tuple[tuple[str, Evaluation], ...]:
        """The evaluations, each with what it is called."""
        return (
            ("The next item is new, among all items", self.whole),
            ("The next item is new, among the new items only", self.among_new),
            ("The next item is an old one, among all items", self.known),
        )

    def document(self, title: str, command: str) -> Document:
        """A report of both tables, with intervals, and the command that made it."""
        sections = [Section(words, tables=(_table(words, one),)) for words, one in self.parts()]
        if self.codebook_fit is not None:
            sections.append(Section("The codebook", (f"{self.codebook_fit['verdict']}.",)))
        return Document(title, (f"Made by: {command}", *self.notes), tuple(sections))


def cold_start(
    catalogue: Catalogue,
    histories: Histories,
    config: StoreConfig,
    share: float,
    folder: Path,
    options: RunOptions,
    progress: Progress,
    *,
    sasrec: SasRecConfig | None = None,
    test_users: int | None = None,
) -> ColdStart:
    """Hide a share of the items, train without them, add them, and measure; an interrupted call goes on in ``folder``.

    STORE, without and with places kept for new items, is ranked beside popularity and Markov, which know no new item,
    SASRec, which cannot list one, and :class:`ContentSimilarity` over the same dense tokens. With ``test_users`` so
    many users of each kind are drawn for the tables; all train.

    Raises
    ------
    DataError: nothing can be hidden, or nobody is left to test.
    TrainingError: ``folder`` holds another run.
    """
    cold = hide_items(catalogue, histories, share, options.seed)
    run = RunFolder.create(folder / "run", cold.warm, cold.histories, config, options)
    fit(run, progress)
    with closing(Live.open(run.path, options=options)) as live:
        live.add_items(cold.hidden, progress)
        told = live.codebook_fit()
    systems = _systems(cold, run, live.store, sasrec or SasRecConfig(), folder / "sasrec", progress)
    both = [systems[0], *(_Reserving(live.store, share) for share in SHARES), *systems[1:]]
    among_new = [_Without(one, np.arange(len(cold.warm))) for one in systems]
    whole, new, known = (
        _measured(some, cases, test_users, cold, run, config.evaluation)
        for some, cases in ((both, cold.cases), (among_new, cold.cases), (both, run.split.test))
    )
    found = ColdStart(whole, new, known, None if told is None else told.to_json(), cold.notes)
    write_json(folder / "cold_start.json", found.to_json())
    return found


def write_page(found: ColdStart, folder: Path, title: str, command: str) -> Path:
    """Write ``cold_start.md`` into ``folder``."""
    place = folder / "cold_start.md"
    with atomic(place) as temporary:
        temporary.write_text(markdown(found.document(title, command)), encoding="utf-8")
    return place


SHARES = (0.1, 0.2)
"""Shares of the places of a list kept for new items, each measured beside none."""


class _Reserving:
    """STORE with places kept for new items."""

    own_batches = True

    def __init__(self, store: STORE, share: float) -> None:
        self.name, self._store, self._share = f"store, {share:.0%} for new items", store, share

    def recommend(self, histories: Histories, k: int, *, exclude: Exclusions) -> RankedLists:
        """As :meth:`STORE.recommend_batch`."""
        return self._store.recommend_batch(histories, k, exclude=exclude, new_share=self._share)


class _Without:
    """A system that never returns some rows."""

    def __init__(self, system: System, rows: np.ndarray) -> None:
        self.name, self._system, self._rows = system.name, system, rows
        self.own_batches = getattr(system, "own_batches", False)

    def recommend(self, histories: Histories, k: int, *, exclude: Exclusions) -> RankedLists:
        """As the system, without those rows."""
        given = np.empty(0, np.int64) if exclude.items is None else exclude.items
        return self._system.recommend(histories, k, exclude=replace(exclude, items=np.union1d(given, self._rows)))


class _KnowsFirst:
    """A system of the first items only, which no new one can be added to."""

    def __init__(self, system: System, n_items: int) -> None:
        self.name, self._system, self._n_items = system.name, system, n_items

    def recommend(self, histories: Histories, k: int, *, exclude: Exclusions) -> RankedLists:
        """As the system; rows that it does not know need no exclusion."""
        items = None if exclude.items is None else exclude.items[exclude.items < self._n_items]
        return self._system.recommend(histories, k, exclude=replace(exclude, items=items))


def _systems(
    cold: ColdItems, run: RunFolder, store: STORE, sasrec: SasRecConfig, folder: Path, progress: Progress
) -> list[System]:
    """STORE with the new items in it, and what it is measured against."""
    n = len(store.catalogue)
    if store.catalogue.ids.to_list() != cold.warm.concat(cold.hidden).ids.to_list():
        raise DataError(f"{run.path}: other items were added to this run; give another folder")
    train = run.split.train
    model, _ = train_sasrec(run.split, len(cold.warm), sasrec, folder, run.options, progress)
    new = encode_items(store.tokenizer, cold.hidden, run.options, progress, layers=store.encoding())
    dense = np.concatenate([run.dense.whole(), new])
    return [
        store.system,
        Popularity.fit(train, n),
        Markov.fit(train, n),
        _KnowsFirst(SasRec(model), len(cold.warm)),
        ContentSimilarity.fit(dense, len(cold.warm)),
    ]


def _measured(
    systems: Sequence[System], cases: Cases, most: int | None, cold: ColdItems, run: RunFolder, config: EvaluationConfig
) -> Evaluation:
    n, seed = len(cold.warm) + len(cold.hidden), run.options.seed
    drawn = sample_cases(cases, most, seed)
    notes = cold.notes if cases is cold.cases else (cold.notes[0], "targets are the last items that were not hidden")
    if len(drawn) < len(cases):
        notes += (f"{len(drawn):,} of {len(cases):,} users were drawn for this table",)
    return evaluate(
        systems, drawn, run.split.train, table=None, config=config, seed=seed, protocol="cold items", notes=notes,
        n_items=n,
    )  # fmt: skip


def _table(title: str, one: Evaluation) -> TextTable:
    names = list(one.systems[one.reference].item_level)
    metrics = [name for name in names if name.endswith(("@10", "@20"))] or names
    rows = []
    for name, result in one.systems.items():
        cells = [result.item_level[metric] for metric in metrics]
        rows.append((Entry(name), *(Entry(f"{m.value:.4f} [{m.low:.4f}, {m.high:.4f}]") for m in cells)))
    note = f"{one.users:,} users, {one.n_items:,} items, 95% bootstrap intervals over users, one seed ({one.seed})"
    return TextTable(title, ("System", *(printed(metric) for metric in metrics)), tuple(rows), note)
