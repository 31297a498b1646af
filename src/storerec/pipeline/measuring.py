"""Measuring a trained system beside popularity and Markov on held-out users."""

from __future__ import annotations

from storerec.codes import CodeTable
from storerec.data.splits import Cases, Split
from storerec.errors import DataError
from storerec.evaluation import Evaluation, EvaluationConfig, evaluate
from storerec.systems.base import System
from storerec.systems.markov import Markov
from storerec.systems.popularity import Popularity


def measure(
    system: System,
    split: Split,
    which: str,
    table: CodeTable,
    config: EvaluationConfig,
    seed: int,
    *,
    baselines: bool = True,
) -> Evaluation:
    """Measure ``system`` on the ``which`` (test or validation) users of ``split``, with ``baselines`` beside it.

    Raises
    ------
    DataError: the split has no such users.
    """
    cases = held_out(split, which)
    others: list[System] = []
    if baselines:
        others = [Popularity.fit(split.train, len(table)), Markov.fit(split.train, len(table))]
    return evaluate(
        [system, *others],
        cases,
        split.train,
        table=table,
        config=config,
        seed=seed,
        protocol=split.protocol,
        notes=split.notes,
    )


def held_out(split: Split, which: str) -> Cases:
    """The ``test`` or ``validation`` cases of a split; DataError where it has none."""
    cases = {"test": split.test, "validation": split.validation}[which]
    if len(cases) == 0:
        raise DataError(f"the split has no {which} users (leave-one-out needs users with three items or more)")
    return cases
