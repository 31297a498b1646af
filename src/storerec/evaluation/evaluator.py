"""Running systems on held-out cases and measuring their lists."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from storerec.codes.table import CodeTable
from storerec.data.histories import Histories
from storerec.data.splits import Cases
from storerec.errors import DataError
from storerec.evaluation.bootstrap import Interval, bootstrap_means, paired_difference
from storerec.evaluation.config import EvaluationConfig
from storerec.evaluation.evaluation import Evaluation, Metrics, SliceResult, SystemResult
from storerec.evaluation.metrics import coverage, item_ranks, tuple_ranks, user_metrics
from storerec.evaluation.slices import slice_users
from storerec.systems.base import Exclusions, System

Values = dict[str, NDArray[np.float64]]


def evaluate(
    systems: Sequence[System],
    cases: Cases,
    train: Histories,
    *,
    table: CodeTable | None,
    config: EvaluationConfig,
    seed: int,
    protocol: str | None = None,
    notes: Sequence[str] = (),
    n_items: int | None = None,
) -> Evaluation:
    """Rank the full catalogue for every case with every system, and measure.

    Parameters
    ----------
    systems
        at least one, names distinct; all get the same histories, list length and exclusions.
    cases
        input histories and one target item each.
    train
        training histories; their item counts make the slices.
    table
        codes of all items, for metrics at tuple level; None leaves those out.
    config
        cut-offs, exclusion of histories, bootstrap.
    seed
        seed of the bootstrap; users are resampled alike for all systems.
    protocol
        name of the split, for reports only.
    notes
        what a reader must know of the split, for reports only.
    n_items
        size of the catalogue, for coverage. By default that of ``table``; without one, the highest item row
        in ``train`` and ``cases`` plus one.

    Returns
    -------
    Item level and tuple level metrics, slices, coverage and paired differences.

    Raises
    ------
    DataError: no system or case, names that occur twice, item rows beyond the catalogue, or lists of a wrong
        shape.
    """
    n_items = _checked_items(systems, cases, train, table, n_items)
    counts = train.item_counts(n_items)
    parts = slice_users(cases.targets, counts)
    results: dict[str, SystemResult] = {}
    values: dict[str, Values] = {}
    for system in systems:
        begin = time.perf_counter()
        items = _recommend(system, cases.histories, config)
        seconds = time.perf_counter() - begin
        values[system.name] = user_metrics(item_ranks(items, cases.targets), config.ks, mrr=config.mrr)
        results[system.name] = _measure(
            items, cases.targets, values[system.name], parts, table, n_items, config, seed, seconds
        )
    reference = "store" if "store" in values else systems[0].name
    return Evaluation(
        systems=results,
        reference=reference,
        differences=_differences(values, reference, config, seed),
        users=len(cases),
        n_items=n_items,
        ks=config.ks,
        seed=seed,
        protocol=protocol,
        notes=tuple(notes),
        exclude_history=config.exclude_history,
        targets_in_history=targets_in_history(cases),
        confidence=config.confidence,
        bootstrap_samples=config.bootstrap_samples,
    )


def _measure(
    items: np.ndarray,
    targets: np.ndarray,
    values: Values,
    parts: Mapping[str, np.ndarray],
    table: CodeTable | None,
    n_items: int,
    config: EvaluationConfig,
    seed: int,
    seconds: float,
) -> SystemResult:
    """Everything measured of one system's lists."""
    tuple_level = None
    if table is not None:
        ranks = tuple_ranks(items, targets, table.tuple_of)
        tuple_level = _intervals(user_metrics(ranks, config.ks, mrr=config.mrr), config, seed)
    slices = {}
    for name, users in parts.items():
        within = {metric: v[users] for metric, v in values.items()}
        slices[name] = SliceResult(n=len(users), item=_intervals(within, config, seed) if len(users) else None)
    return SystemResult(
        item_level=_intervals(values, config, seed),
        tuple_level=tuple_level,
        slices=slices,
        coverage={f"coverage@{k}": coverage(items, k, n_items) for k in config.ks},
        seconds=seconds,
    )


def _intervals(values: Values, config: EvaluationConfig, seed: int) -> Metrics:
    found = bootstrap_means(
        np.stack(list(values.values())),
        samples=config.bootstrap_samples,
        confidence=config.confidence,
        seed=seed,
    )
    return dict(zip(values, found, strict=True))


def _differences(
    values: Mapping[str, Values], reference: str, config: EvaluationConfig, seed: int
) -> dict[str, Metrics]:
    """Reference minus each other system, per metric, with paired intervals."""
    own = np.stack(list(values[reference].values()))
    out: dict[str, dict[str, Interval]] = {}
    for name, other in values.items():
        if name != reference:
            found = paired_difference(
                own,
                np.stack(list(other.values())),
                samples=config.bootstrap_samples,
                confidence=config.confidence,
                seed=seed,
            )
            out[name] = dict(zip(other, found, strict=True))
    return out


def _recommend(system: System, histories: Histories, config: EvaluationConfig) -> NDArray[np.int32]:
    """Lists (users, largest K) of one system, recommended in batches (those that batch themselves get all at once)."""
    k = max(config.ks)
    size = len(histories) if getattr(system, "own_batches", False) else config.batch_size
    exclude = Exclusions(history=config.exclude_history)
    out = np.empty((len(histories), k), dtype=np.int32)
    for start in range(0, len(histories), size):
        users = np.arange(start, min(start + size, len(histories)))
        items = system.recommend(histories.select(users), k, exclude=exclude).items
        if items.shape != (len(users), k):
            raise DataError(f"system '{system.name}' gave lists {items.shape}, asked for {(len(users), k)}")
        out[users] = items
    return out


def _checked_items(
    systems: Sequence[System],
    cases: Cases,
    train: Histories,
    table: CodeTable | None,
    n_items: int | None,
) -> int:
    names = [system.name for system in systems]
    if not names or len(set(names)) != len(names):
        raise DataError(f"evaluation needs systems of distinct names, got {names}")
    if len(cases) == 0:
        raise DataError("evaluation needs at least one case; the split left none")
    rows = (train.items, cases.histories.items, cases.targets)
    needed = max(int(r.max(initial=-1)) for r in rows) + 1
    if n_items is None:
        n_items = needed if table is None else len(table)
    if needed > n_items or (table is not None and len(table) != n_items):
        size = "" if table is None else f" and a code table of {len(table)}"
        raise DataError(f"histories reach item row {needed - 1}, for a catalogue of {n_items} items{size}")
    return n_items


def targets_in_history(cases: Cases) -> int:
    """Count the users whose target stands in their own history."""
    histories = cases.histories
    users = np.repeat(np.arange(len(histories)), histories.lengths)
    return len(np.unique(users[histories.items == cases.targets[users]]))
