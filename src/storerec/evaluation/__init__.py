"""Measuring systems: full-ranking metrics with bootstrap intervals, slices, tables and plots."""

from storerec.evaluation.bootstrap import Interval, bootstrap_means, paired_difference
from storerec.evaluation.comparison import Comparison
from storerec.evaluation.config import EvaluationConfig
from storerec.evaluation.evaluation import Evaluation, SliceResult, SystemResult
from storerec.evaluation.evaluator import evaluate
from storerec.evaluation.grouped import grouped_metrics, usable_groups
from storerec.evaluation.leaks import check_excluded, check_lists, check_split, check_tree
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
from storerec.evaluation.ranked import Cell, compare_cells
from storerec.evaluation.report import difference_table, metric_table, slice_table
from storerec.evaluation.report_folder import write_report, write_score_report
from storerec.evaluation.score_comparison import ScoreComparison
from storerec.evaluation.scored import ScoreCell, compare_scores
from storerec.evaluation.significance import holm, sign_flip_p
from storerec.evaluation.slices import SLICES, slice_users

__all__ = [
    "SLICES",
    "Cell",
    "Comparison",
    "Evaluation",
    "EvaluationConfig",
    "Interval",
    "ScoreCell",
    "ScoreComparison",
    "SliceResult",
    "SystemResult",
    "bootstrap_means",
    "check_excluded",
    "check_lists",
    "check_split",
    "check_tree",
    "compare_cells",
    "compare_scores",
    "coverage",
    "difference_table",
    "evaluate",
    "grouped_metrics",
    "holm",
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
    "sign_flip_p",
    "slice_table",
    "slice_users",
    "tuple_ranks",
    "usable_groups",
    "user_metrics",
    "write_report",
    "write_score_report",
]
