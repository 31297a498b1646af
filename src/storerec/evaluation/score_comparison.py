"""The result of comparing systems that score candidates."""

from __future__ import annotations

from storerec.evaluation.comparison import Compared, Measured
from storerec.evaluation.pairing import Metrics


class ScoredSystem(Measured):
    """A system that scores candidates. Intervals are over groups, of their values averaged over the seeds."""

    metrics: Metrics
    """``auc``, ``mrr``, ``ndcg@1``, ``ndcg@5``."""

    seconds: tuple[float | None, ...]
    """Wall clock of scoring per seed; None where unknown."""

    @property
    def main(self) -> Metrics:
        """All metrics."""
        return self.metrics


class ScoreComparison(Compared):
    """Systems that score judged candidates, compared on the same groups (impressions or users)."""

    systems: dict[str, ScoredSystem]
    """Results by system, in the order given."""

    groups: int
    """Groups measured."""

    dropped: int
    """Groups left out because they lack a positive or a negative."""

    candidates: int
    """Candidates in the groups measured."""

    positives: int
    """Positives among them."""
