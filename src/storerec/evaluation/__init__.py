"""Measuring systems: full-ranking metrics with bootstrap intervals, slices, tables and plots."""

from storerec.evaluation.bootstrap import Interval, bootstrap_means, paired_difference
from storerec.evaluation.config import EvaluationConfig
from storerec.evaluation.evaluation import Evaluation, SliceResult, SystemResult
from storerec.evaluation.evaluator import evaluate
from storerec.evaluation.metrics import (
    coverage,
    item_ranks,
    ndcg,
    paper_ndcg,
    recall,
    reciprocal_rank,
    tuple_ranks,
    user_metrics,
)
from storerec.evaluation.plots import plot_code_utilisation, plot_losses, plot_slices
from storerec.evaluation.report import difference_table, metric_table, slice_table
from storerec.evaluation.slices import SLICES, slice_users

__all__ = [
    "SLICES",
    "Evaluation",
    "EvaluationConfig",
    "Interval",
    "SliceResult",
    "SystemResult",
    "bootstrap_means",
    "coverage",
    "difference_table",
    "evaluate",
    "item_ranks",
    "metric_table",
    "ndcg",
    "paired_difference",
    "paper_ndcg",
    "plot_code_utilisation",
    "plot_losses",
    "plot_slices",
    "recall",
    "reciprocal_rank",
    "slice_table",
    "slice_users",
    "tuple_ranks",
    "user_metrics",
]
