"""From ranked lists of many systems and seeds to a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storerec.data.histories import Histories
from storerec.data.splits import Cases
from storerec.errors import DataError
from storerec.evaluation.comparison import ComparedSystem, Comparison, UserRanks, finite, plain
from storerec.evaluation.config import EvaluationConfig
from storerec.evaluation.evaluation import SliceResult
from storerec.evaluation.evaluator import targets_in_history
from storerec.evaluation.leaks import check_excluded, check_lists
from storerec.evaluation.metrics import coverage, item_ranks, paper_ndcg, tuple_ranks, user_metrics
from storerec.evaluation.novelty import list_means, long_tail, self_information
from storerec.evaluation.pairing import (
    Metrics,
    Resampling,
    Values,
    differences,
    intervals,
    mean_over_seeds,
    seed_figures,
)
from storerec.evaluation.slices import slice_users

PAPER_DEPTH = 20
"""List length the paper's NDCG formula needs."""


@dataclass(frozen=True, eq=False)
class Cell:
    """The lists of one system trained with one seed.

    Attributes
    ----------
    system
        Name of the system.
    seed
        Seed it was trained with; a system that draws nothing has one cell.
    items
        (users, K) int32 catalogue rows, best first, -1 for none; K at least the largest cut-off.
    tuple_of
        (n_items,) int32, the code tuple of each item in this run; None for systems without codes.
    train_seconds, recommend_seconds
        Wall clock; nan where unknown.
    notes
        What a reader must know of this run.
    """

    system: str
    seed: int
    items: np.ndarray
    tuple_of: np.ndarray | None
    train_seconds: float
    recommend_seconds: float
    notes: tuple[str, ...] = ()


def compare_cells(
    cells: Sequence[Cell],
    cases: Cases,
    train: Histories,
    *,
    n_items: int,
    config: EvaluationConfig,
    seed: int,
    reference: str,
    failures: Mapping[str, str],
    protocol: str,
    split_notes: Sequence[str],
    settings: Mapping[str, Any],
    title: str,
    paper: Mapping[str, Mapping[str, float]] | None = None,
    flips: int = 10_000,
) -> Comparison:
    """Measure every system's lists, averaged over its seeds per user, and test the reference against the others.

    Parameters
    ----------
    cells
        at least one; systems appear in the order of their first cell.
    cases
        the users, with one target each, in the order of the lists.
    train
        training histories: slices by the targets' training events, novelty.
    n_items
        size of the catalogue.
    config
        cut-offs, exclusion, bootstrap; MRR is measured always, over the largest cut-off.
    seed
        seed of resampling and tests.
    reference
        the system all others are tested against.
    failures
        cells or systems without lists, failed or not run, with one line each.
    protocol, split_notes, settings, title
        for the report.
    paper
        figures printed elsewhere, by system and metric name (``recall@K``, ``paper_ndcg@K``).
    flips
        random sign patterns behind each p-value.

    Returns
    -------
    The comparison, with per-user ranks. Without a cell of the reference it has no differences.

    Raises
    ------
    DataError: no cell or user, a cell twice, lists that are no lists of the catalogue, too short or (where
        ``config`` excludes histories) with items of the history, or a reference neither measured nor failed.
    """
    groups = _grouped(cells, cases, n_items, config)
    if reference not in groups and not failures:
        raise DataError(f"the reference '{reference}' is not among the systems: {', '.join(groups)}")
    counts = train.item_counts(n_items)
    options = Resampling(samples=config.bootstrap_samples, confidence=config.confidence, flips=flips, seed=seed)
    ranks = _ranks(groups, cases.targets)
    systems, item = _measure(groups, ranks, counts, config, options)
    return Comparison.with_ranks(
        ranks,
        title=title,
        systems=systems,
        reference=reference if reference in groups else None,
        differences=differences(item, reference, options) if reference in groups else {},
        failures=dict(failures),
        paper={name: dict(figures) for name, figures in (paper or {}).items()},
        settings=plain(settings),
        notes=tuple(split_notes),
        users=len(cases),
        n_items=n_items,
        ks=config.ks,
        protocol=protocol,
        exclude_history=config.exclude_history,
        targets_in_history=targets_in_history(cases),
        seed=seed,
        confidence=config.confidence,
        bootstrap_samples=config.bootstrap_samples,
        flips=flips,
    )


def joined_notes(runs: Sequence[tuple[int, Sequence[str]]]) -> tuple[str, ...]:
    """Notes of a system's (seed, notes) runs; those not of all seeds say which."""
    seeds: dict[str, list[int]] = {}
    for seed, notes in runs:
        for note in dict.fromkeys(notes):
            seeds.setdefault(note, []).append(seed)
    return tuple(
        note if len(found) == len(runs) else f"{note} (seed {', '.join(map(str, found))})"
        for note, found in seeds.items()
    )


def _measure(
    groups: Mapping[str, list[Cell]],
    ranks: UserRanks,
    counts: NDArray[np.int64],
    config: EvaluationConfig,
    options: Resampling,
) -> tuple[dict[str, ComparedSystem], dict[str, Values]]:
    """All systems' results, and their per-user item-level values for the tests."""
    by_seed = {name: [_values(ranks.item[c.system, c.seed], config) for c in own] for name, own in groups.items()}
    item = {name: mean_over_seeds(values) for name, values in by_seed.items()}
    by_tuple = {
        name: mean_over_seeds([_values(ranks.tuple[c.system, c.seed], config) for c in own])
        for name, own in groups.items()
        if all(c.tuple_of is not None for c in own)
    }
    deep = all(c.items.shape[1] >= PAPER_DEPTH for own in groups.values() for c in own)
    formula = {
        name: mean_over_seeds([_paper_values(ranks.item[c.system, c.seed], config, deep) for c in own])
        for name, own in groups.items()
    }
    found, tuples, papers = intervals(item, options), intervals(by_tuple, options), intervals(formula, options)
    slices = _slices(item, ranks.targets, counts, options)
    out = {}
    for name, own in groups.items():
        means, std = seed_figures(by_seed[name])
        out[name] = ComparedSystem(
            seeds=tuple(c.seed for c in own),
            item_level=found[name],
            tuple_level=tuples.get(name),
            paper_formula=papers[name],
            seed_means=means,
            seed_std=std,
            slices=slices[name],
            lists=_lists(own, counts, config.ks),
            train_seconds=tuple(finite(c.train_seconds) for c in own),
            recommend_seconds=tuple(finite(c.recommend_seconds) for c in own),
            notes=joined_notes([(c.seed, c.notes) for c in own]),
        )
    return out, dict(item)


def _values(ranks: np.ndarray, config: EvaluationConfig) -> Values:
    return user_metrics(ranks, config.ks, mrr=True)


def _paper_values(ranks: np.ndarray, config: EvaluationConfig, deep: bool) -> Values:
    return {f"paper_ndcg@{k}": paper_ndcg(ranks, k) for k in config.ks} if deep else {}


def _slices(
    item: Mapping[str, Values], targets: np.ndarray, counts: np.ndarray, options: Resampling
) -> dict[str, dict[str, SliceResult]]:
    out: dict[str, dict[str, SliceResult]] = {name: {} for name in item}
    for part, users in slice_users(targets, counts).items():
        within = {name: {m: v[users] for m, v in values.items()} for name, values in item.items()}
        found: Mapping[str, Metrics] = intervals(within, options) if len(users) else {}
        for name in item:
            out[name][part] = SliceResult(n=len(users), item=found.get(name))
    return out


def _lists(own: Sequence[Cell], counts: NDArray[np.int64], ks: Sequence[int]) -> dict[str, float | None]:
    bits, tail = self_information(counts), long_tail(counts)
    out: dict[str, float | None] = {}
    for k in ks:
        out[f"coverage@{k}"] = finite(float(np.mean([coverage(c.items, k, len(counts)) for c in own])))
    for k in ks:
        out[f"novelty@{k}"] = finite(float(np.mean([list_means(c.items, bits, k) for c in own])))
    for k in ks:
        out[f"long_tail@{k}"] = finite(float(np.mean([list_means(c.items, tail, k) for c in own])))
    return out


def _ranks(groups: Mapping[str, list[Cell]], targets: np.ndarray) -> UserRanks:
    cells = [c for own in groups.values() for c in own]
    return UserRanks(
        targets,
        {(c.system, c.seed): item_ranks(c.items, targets) for c in cells},
        {(c.system, c.seed): tuple_ranks(c.items, targets, c.tuple_of) for c in cells if c.tuple_of is not None},
    )


def _grouped(cells: Sequence[Cell], cases: Cases, n_items: int, config: EvaluationConfig) -> dict[str, list[Cell]]:
    """Cells by system, checked."""
    if not cells or len(cases) == 0:
        raise DataError(f"a comparison needs at least one cell and one user, got {len(cells)} and {len(cases)}")
    out: dict[str, list[Cell]] = {}
    for cell in cells:
        own, name = out.setdefault(cell.system, []), f"system '{cell.system}', seed {cell.seed}"
        if cell.seed in [c.seed for c in own]:
            raise DataError(f"{name} occurs twice; a cell may be given once")
        own.append(cell)
        if cell.items.ndim != 2 or len(cell.items) != len(cases) or cell.items.shape[1] < max(config.ks):
            wanted = f"({len(cases)}, {max(config.ks)} or more)"
            raise DataError(f"{name}: lists of shape {cell.items.shape}, expected {wanted}")
        if cell.tuple_of is not None and cell.tuple_of.shape != (n_items,):
            raise DataError(f"{name}: code tuples of shape {cell.tuple_of.shape}, expected ({n_items},)")
        try:
            check_lists(cell.items, n_items, user_ids=cases.histories.user_ids)
            if config.exclude_history:
                check_excluded(cell.items, cases.histories, n_items)
        except DataError as error:
            raise DataError(f"{name}: {error}") from None
    return out
