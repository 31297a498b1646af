"""From scores of many systems and seeds for judged candidates to a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from storerec.errors import DataError
from storerec.evaluation.comparison import finite, plain
from storerec.evaluation.config import EvaluationConfig
from storerec.evaluation.grouped import grouped_metrics, usable_groups
from storerec.evaluation.pairing import Resampling, differences, intervals, mean_over_seeds, seed_figures
from storerec.evaluation.ranked import joined_notes
from storerec.evaluation.score_comparison import ScoreComparison, ScoredSystem


@dataclass(frozen=True, eq=False)
class ScoreCell:
    """The scores of one system trained with one seed.

    Attributes
    ----------
    system
        Name of the system.
    seed
        Seed it was trained with; a system that draws nothing has one cell.
    scores
        (n,) float, one per candidate, higher is better.
    seconds
        Wall clock of scoring; nan where unknown.
    notes
        What a reader must know of this run.
    """

    system: str
    seed: int
    scores: np.ndarray
    seconds: float
    notes: tuple[str, ...] = ()


def compare_scores(
    cells: Sequence[ScoreCell],
    labels: np.ndarray,
    offsets: np.ndarray,
    *,
    config: EvaluationConfig,
    seed: int,
    reference: str,
    failures: Mapping[str, str],
    settings: Mapping[str, Any],
    title: str,
    notes: Sequence[str] = (),
    paper: Mapping[str, Mapping[str, float]] | None = None,
    flips: int = 10_000,
) -> ScoreComparison:
    """Measure every system's scores per group, averaged over its seeds, and test the reference against the others.

    Parameters
    ----------
    cells
        at least one; systems appear in the order of their first cell.
    labels, offsets
        the judged candidates, as in :func:`storerec.evaluation.grouped.grouped_metrics`.
    config
        level and resamples of the intervals.
    seed
        seed of resampling and tests.
    reference
        the system all others are tested against.
    failures
        cells or systems without scores, failed or not run, with one line each.
    settings, title, notes
        for the report.
    paper
        figures printed elsewhere, by system and metric name.
    flips
        random sign patterns behind each p-value.

    Raises
    ------
    DataError: no cell, a cell twice, scores that do not fit or are not finite, no group with a positive and a
        negative, or a reference neither measured nor failed.
    """
    groups = _by_system(cells)
    if reference not in groups and not failures:
        raise DataError(f"the reference '{reference}' is not among the systems: {', '.join(groups)}")
    usable = usable_groups(labels, offsets)
    if not usable.any():
        raise DataError(f"none of {len(usable)} groups has a positive and a negative candidate; nothing to measure")
    options = Resampling(samples=config.bootstrap_samples, confidence=config.confidence, flips=flips, seed=seed)
    by_seed = {name: [_measured(cell, labels, offsets) for cell in own] for name, own in groups.items()}
    values = {name: mean_over_seeds(list(own)) for name, own in by_seed.items()}
    found = intervals(values, options)
    systems = {}
    for name, own in groups.items():
        means, std = seed_figures(list(by_seed[name]))
        systems[name] = ScoredSystem(
            seeds=tuple(c.seed for c in own),
            seed_means=means,
            seed_std=std,
            notes=joined_notes([(c.seed, c.notes) for c in own]),
            metrics=found[name],
            seconds=tuple(finite(c.seconds) for c in own),
        )
    kept = np.repeat(usable, np.diff(offsets))
    return ScoreComparison(
        title=title,
        systems=systems,
        reference=reference if reference in groups else None,
        differences=differences(values, reference, options) if reference in groups else {},
        failures=dict(failures),
        paper={name: dict(figures) for name, figures in (paper or {}).items()},
        settings=plain(settings),
        notes=tuple(notes),
        seed=seed,
        confidence=config.confidence,
        bootstrap_samples=config.bootstrap_samples,
        flips=flips,
        groups=int(usable.sum()),
        dropped=int((~usable).sum()),
        candidates=int(kept.sum()),
        positives=int(labels[kept].sum()),
    )


def _measured(cell: ScoreCell, labels: np.ndarray, offsets: np.ndarray) -> dict[str, np.ndarray]:
    try:
        return grouped_metrics(np.asarray(cell.scores, dtype=np.float64), labels, offsets)
    except DataError as error:
        raise DataError(f"system '{cell.system}', seed {cell.seed}: {error}") from None


def _by_system(cells: Sequence[ScoreCell]) -> dict[str, list[ScoreCell]]:
    if not cells:
        raise DataError("a comparison needs at least one cell")
    out: dict[str, list[ScoreCell]] = {}
    for cell in cells:
        own = out.setdefault(cell.system, [])
        if cell.seed in [c.seed for c in own]:
            raise DataError(f"system '{cell.system}', seed {cell.seed} occurs twice; a cell may be given once")
        own.append(cell)
    return out
