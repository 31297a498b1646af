"""The public class: fit, recommend, tokenize, evaluate, save, load."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from storerec.codes import Clusterer, CodeReport, CodeTable
from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.data.splits import Split
from storerec.errors import DataError, StorerecWarning
from storerec.evaluation import Evaluation, EvaluationConfig
from storerec.llm.progress import Progress
from storerec.pipeline.additions import apply, planned, read_items_text
from storerec.pipeline.answers import Explanation, Inspection, Recommendation, Score, scored
from storerec.pipeline.coding import codes_of
from storerec.pipeline.config import StoreConfig
from storerec.pipeline.hub import Pretrained
from storerec.pipeline.measuring import measure
from storerec.recommender import Recommender
from storerec.recommender.scoring import CodeScorer
from storerec.systems.base import Exclusions, RankedLists
from storerec.systems.code_scorer import CodeScorerSystem, LikelihoodScorer
from storerec.systems.reserve import search_with_reserve
from storerec.systems.scorer import Scorer
from storerec.systems.store import StoreSystem
from storerec.tokenizer import DenseTokenizer, encoding_layers

if TYPE_CHECKING:
    from storerec.llm.inference import InferenceLayers
    from storerec.pipeline.engine import Engine
    from storerec.pipeline.folder import RunFolder


class STORE(Pretrained):
    """Recommendations from text and histories with one language model.

    Make one with :meth:`fit` or :meth:`load`.

    Attributes
    ----------
    catalogue: the items it knows, removed ones among them.
    removed: (items,) bool, which are in no list any more.
    trained: how many of the items, the first ones, it was trained on; the others were added afterwards.
    config: what it was trained as.
    scorer: the yes/no scorer, if one was trained.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        config: StoreConfig,
        tokenizer: DenseTokenizer,
        clusterer: Clusterer,
        table: CodeTable,
        recommender: Recommender,
        options: RunOptions,
        split: Split | None = None,
        *,
        scorer: CodeScorer | None = None,
        trained: int | None = None,
    ) -> None:
        self.catalogue, self.config, self.options = catalogue, config, options
        self.removed = np.zeros(len(catalogue), bool)
        self.trained = len(catalogue) if trained is None else trained
        self.clusterer, self.table = clusterer, table
        # no dropout and no gradients from here on, whether trained just now or read from files
        self.tokenizer = tokenizer.requires_grad_(False).eval()
        self.recommender = recommender.requires_grad_(False).eval()
        self.scorer = None if scorer is None else scorer.requires_grad_(False).eval()
        self._split = split
        self.system = StoreSystem(recommender, table, config.search, options)

    @classmethod
    def fit(
        cls,
        catalogue: Catalogue,
        histories: Histories,
        config: StoreConfig | None = None,
        *,
        folder: Path | str | None = None,
        options: RunOptions | None = None,
        engine: Engine | None = None,
    ) -> STORE:
        """Train on ``catalogue`` and ``histories``.

        Parameters
        ----------
        config: defaults to the preset ``cpu`` without a GPU and to the paper's settings on the default backbone
            with one.
        folder: a run folder to keep every stage's result in; an interrupted fit resumes from it. Without one, a
            temporary folder serves.
        engine: where to compute; this process by default. One on several machines needs a folder that all of them see.

        Raises
        ------
        StorerecError: the data, the configuration or the folder is not usable; the text says which and why.
        """
        from storerec.pipeline.folder import RunFolder
        from storerec.pipeline.stages import fit

        options = options or RunOptions()
        config = config or StoreConfig.preset("cpu")
        temporary = tempfile.mkdtemp(prefix="storerec-") if folder is None else None
        try:
            where = Path(temporary) / "run" if temporary else Path(str(folder))
            run = RunFolder.create(where, catalogue, histories, config, options)
            with Progress(enabled=options.progress) as progress:
                return fit(run, progress, engine)
        finally:
            if temporary:
                shutil.rmtree(temporary, ignore_errors=True)

    @classmethod
    def of_run(cls, run: RunFolder) -> STORE:
        """The trained parts of a run folder whose stages are done."""
        return cls(
            run.catalogue,
            run.config,
            run.tokenizer,
            run.clusterer,
            run.table,
            run.recommender,
            run.options,
            run.split,
            scorer=run.scorer,
        )

    @classmethod
    def load(
        cls,
        folder: Path | str,
        *,
        backbone: str | None = None,
        options: RunOptions | None = None,
        for_inference: bool = True,
    ) -> STORE:
        """Load a bundle, or the bundle of a run folder.

        Parameters
        ----------
        backbone: where the backbone is here, if the name it was trained with (a folder, say) is not valid here.
        for_inference: read the language model without transformers where that is possible, which takes a tenth of the
            time; such a STORE cannot be exported as a model.

        Raises
        ------
        BundleError: a file is missing, truncated or altered, or the backbone is another one.
        """
        from storerec.pipeline.bundling import load_bundle

        given = options or RunOptions()
        return load_bundle(Path(folder), backbone=backbone, options=given, for_inference=for_inference)

    def save(self, folder: Path | str) -> None:
        """Write everything needed to tokenize, recommend and explain into ``folder`` (safetensors and JSON only)."""
        from storerec.pipeline.bundling import save_bundle

        save_bundle(Path(folder), self)

    def recommend(
        self,
        history: Sequence[str],
        k: int = 10,
        *,
        exclude: Sequence[str] = (),
        exclude_history: bool = False,
        new_share: float | None = None,
    ) -> list[Recommendation]:
        """The ``k`` most probable next items after ``history``.

        Parameters
        ----------
        history: item ids, oldest first; ids the catalogue does not have are dropped with a warning. An empty
            history gets what is probable as a first item.
        exclude: item ids never to return; ``exclude_history`` adds those of the history.
        new_share: share of the places kept for items added after training; None takes the search's own.

        Raises
        ------
        DataError: k is below 1, the share is not within 0 and 1, none of a non-empty history's ids is known, or an id
            in ``exclude`` is unknown.
        """
        if k < 1:
            raise DataError(f"k must be at least 1, got {k}")
        rows = self._known(list(history))
        banned = self.catalogue.rows(list(exclude)) if len(exclude) else np.empty(0, np.int64)
        if (banned < 0).any():
            raise DataError(f"exclude: no item '{list(exclude)[int(np.argmin(banned))]}' in the catalogue")
        one = Histories.from_arrays(["user"], np.array([0, len(rows)]), rows.astype(np.int32))
        excluded = Exclusions(history=exclude_history, items=banned)
        lists = self.recommend_batch(one, k, exclude=excluded, new_share=new_share)
        found = lists.items[0][lists.items[0] >= 0]
        ids, titles = self.catalogue.ids, self.catalogue.titles
        return [
            Recommendation(ids[int(row)], titles[int(row)], float(score), tuple(int(c) for c in self.table.codes[row]))
            for row, score in zip(found, lists.scores[0], strict=False)
        ]

    def recommend_batch(
        self,
        histories: Histories,
        k: int = 10,
        *,
        exclude: Exclusions | None = None,
        new_share: float | None = None,
    ) -> RankedLists:
        """The ``k`` most probable next items of many users at once, as catalogue rows; none that were removed.

        ``new_share`` as in :meth:`recommend`.

        Raises
        ------
        DataError: k is below 1, an excluded row is not in the catalogue, or the share is not within 0 and 1.
        """
        if k < 1:
            raise DataError(f"k must be at least 1, got {k}")
        exclude = exclude or Exclusions()

        def search(wanted: int, banned: np.ndarray) -> RankedLists:
            return self.system.recommend(histories, wanted, exclude=replace(exclude, items=np.flatnonzero(banned)))

        lengths, share = np.full(len(histories), k), np.full(len(histories), self.share_for_new(new_share))
        banned = self.removed | ~exclude.allowed(len(self.catalogue))
        return search_with_reserve(search, lengths, share, self.new, banned)

    @property
    def new(self) -> np.ndarray:
        """(items,) bool, which were added after training."""
        found = np.zeros(len(self.catalogue), bool)
        found[self.trained :] = True
        return found

    def share_for_new(self, share: float | None) -> float:
        """Share of a list's places that are kept for new items, whole ones only; DataError unless within 0 and 1."""
        wanted = self.config.search.new_share if share is None else share
        if not 0 <= wanted <= 1:
            raise DataError(f"new_share: a share of places lies within 0 and 1, got {wanted}")
        return wanted

    @property
    def scored_by(self) -> str:
        """What :meth:`score` gives: ``probability of yes`` of a trained scorer, or ``log-probability`` of the codes."""
        return "log-probability" if self.scorer is None else "probability of yes"

    def score(self, history: Sequence[str], candidates: Sequence[str]) -> list[Score]:
        """Score ``candidates`` for a user with ``history``, best first; ties in the order given.

        With a trained scorer (``storerec fit-scorer``) by its probability of yes, else by the exact log-probability
        that the recommender gives the item as the next one; :attr:`scored_by` says which.

        Parameters
        ----------
        history: item ids, oldest first; as in :meth:`recommend`.
        candidates: item ids.

        Raises
        ------
        DataError: there is no candidate, one is unknown or removed, or none of a non-empty history's ids is known.
        """
        for row in self.catalogue.rows(list(candidates)).tolist() if self.removed.any() else ():
            if row >= 0 and self.removed[row]:
                raise DataError(f"candidates: item '{self.catalogue.ids[row]}' was removed")
        return scored(self.catalogue, self._scoring, self._known(list(history)), candidates)

    @cached_property
    def _scoring(self) -> Scorer:
        """What scores; a trained scorer has layers of its own, which take seconds to make."""
        if self.scorer is not None:
            return CodeScorerSystem(self.scorer, self.options)
        search = self.config.search
        return LikelihoodScorer(
            self.system.decoder, self.table, normaliser=search.normaliser, item_weight=search.item_weight
        )

    def encoding(self) -> InferenceLayers:
        """What reads texts of items; made at the first call, which takes seconds."""
        return self._encoding

    @cached_property
    def _encoding(self) -> InferenceLayers:
        return encoding_layers(self.tokenizer, self.options)

    def add_items(self, items: Catalogue) -> pl.DataFrame:
        """Make new items recommendable, from their text alone: a frame of ``item_id``, ``status`` and ``codes``.

        New items (``added``) get the codes of their nearest clusters, with collisions settled by the table's policy.
        An id that is there already keeps its codes, whatever its text says now: with another text it is ``updated``
        (the text is what people see; codes follow at the next training), after :meth:`remove_items` it is ``restored``,
        else ``unchanged``. Nothing is trained or built anew: with a million items and policy ``bucket`` it takes what
        reading the text takes, and copies of some tens of milliseconds (docs/performance.md).

        The items are in memory and in what :meth:`save` writes; :class:`storerec.pipeline.Live` keeps them beside a
        bundle. Not while another thread searches.

        Raises
        ------
        ConfigError: the items lack an attribute the tokenizer reads.
        DataError: an item has no text, or policy ``extra`` has no number left for it, or ``reassign`` no codes. Nothing
            is added then.
        """
        addition = planned(self, read_items_text(self, items, self._encoding))
        apply(self, addition)
        return addition.frame()

    def remove_items(self, ids: Sequence[str]) -> None:
        """Take items out of all lists from now on; histories that hold them are read as before.

        Their codes stay theirs, and :meth:`add_items` brings them back.

        Raises
        ------
        DataError: an id is unknown. Nothing is removed then.
        """
        rows = self.catalogue.rows(list(ids)) if len(ids) else np.empty(0, np.int64)
        if (rows < 0).any():
            raise DataError(f"no item '{list(ids)[int(np.argmin(rows))]}' in the catalogue")
        self.removed[rows] = True

    def forget_scoring(self) -> None:
        """Make what scores anew at the next call, where it knows the code table as it was."""
        if self.scorer is None:
            self.__dict__.pop("_scoring", None)

    def tokenize(self, items: Catalogue) -> pl.DataFrame:
        """Semantic IDs of ``items``, known or new: a frame of ``item_id`` and ``codes`` (list of integers).

        An item of the catalogue with unchanged text has the codes it was published with. New items, and known ones
        whose text has changed, get the codes of their nearest clusters, with collisions settled by the table's
        policy beside the published codes, which never change. Items are read by the attributes this was fitted with,
        by name; other columns are not looked at.

        Raises
        ------
        ConfigError: the items lack an attribute the tokenizer reads.
        """
        parts = (self.table, self.tokenizer, self.clusterer, self.options)
        return _codes_frame(items, codes_of(items, self.catalogue, *parts, layers=self._encoding))

    def evaluate(
        self,
        split: Split | None = None,
        *,
        which: str = "test",
        baselines: bool = True,
        config: EvaluationConfig | None = None,
        progress: Progress | None = None,
    ) -> Evaluation:
        """Measure against popularity and first-order Markov on the test (or validation) users of ``split``.

        Parameters
        ----------
        split: defaults to the one this was fitted with; a loaded bundle has none and needs it.

        Raises
        ------
        DataError: there is no split, or it has no such users.
        """
        split = split or self._split
        if split is None:
            raise DataError("a loaded STORE holds no histories: pass the split to evaluate on")
        system = StoreSystem(self.recommender, self.table, self.config.search, self.options, progress=progress)
        settings = config or self.config.evaluation
        return measure(system, split, which, self.table, settings, self.options.seed, baselines=baselines)

    def code_report(self) -> CodeReport:
        """Use of the codes: utilisation and perplexity by position, and collisions."""
        return self.table.report()

    def explain(self, item_id: str, *, neighbours: int = 5) -> Explanation:
        """What the codes say about an item; raises DataError for an unknown id. Removed items are no neighbours."""
        inspection = Inspection(self.catalogue, self.table, self.recommender.tree.source, self.removed)
        return inspection.explain(item_id, neighbours=neighbours)

    def _known(self, history: list[str]) -> np.ndarray:
        rows = self.catalogue.rows(history) if history else np.empty(0, np.int64)
        unknown: list[Any] = [item for item, row in zip(history, rows, strict=True) if row < 0]
        if unknown and len(unknown) == len(history):
            raise DataError(f"history: none of its ids is in the catalogue ({', '.join(unknown[:3])})")
        if unknown:
            warnings.warn(
                f"history: {len(unknown)} unknown item ids dropped ({', '.join(unknown[:3])})",
                StorerecWarning,
                stacklevel=3,
            )
        return rows[rows >= 0]


def _codes_frame(items: Catalogue, codes: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame({"item_id": items.ids, "codes": codes}).with_columns(pl.col("codes").cast(pl.List(pl.Int32)))
