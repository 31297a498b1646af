"""Comparisons as documents: which tables and plots stand where."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from storerec.evaluation import comparison_plots as plots
from storerec.evaluation import comparison_tables as tables
from storerec.evaluation.comparison import Compared, Comparison
from storerec.evaluation.document import Document, Entry, Plot, Section, TextTable
from storerec.evaluation.pairing import Metrics
from storerec.evaluation.report import printed
from storerec.evaluation.score_comparison import ScoreComparison
from storerec.evaluation.statements import ranking_statements, scoring_statements


def ranking_document(comparison: Comparison) -> Document:
    """A comparison of rankings: item level first, then tests, slices, tuple level, lists, cost and the rest."""
    k = main_k(comparison)
    main, second = f"ndcg@{k}", f"recall@{k}"
    sections = [_results(comparison, main, second), _by_slice(comparison, main)]
    coded = {name: s.tuple_level for name, s in comparison.systems.items() if s.tuple_level is not None}
    if coded:
        note = (
            "Any item with the target's codes counts as the target, which rewards collapsed codes: not comparable "
            "with item level, nor between code tables."
        )
        sections.append(Section("Tuple level", tables=(tables.plain_means(coded, "Tuple level", note),)))
    sections += [_lists(comparison, k), _cost(comparison, main)]
    if comparison.paper:
        own = {name: {**s.item_level, **s.paper_formula} for name, s in comparison.systems.items()}
        sections.append(Section("The paper's figures", tables=(tables.paper_table(comparison, own),)))
    elif any(s.paper_formula for s in comparison.systems.values()):
        own_formula: Mapping[str, Metrics] = {name: s.paper_formula for name, s in comparison.systems.items()}
        note = "log2(K + 1) * NDCG@20, printed as NDCG@K by the STORE paper: no NDCG, only to compare with its tables."
        formula = tables.plain_means(own_formula, "The paper's formula for NDCG", note)
        sections.append(Section("The paper's formula", tables=(formula,), details=True))
    every = [tables.interval_table(comparison.systems, "Item level, all metrics with intervals")]
    if comparison.differences:
        every.append(tables.all_tests_table(comparison))
    sections.append(Section("All metrics", tables=tuple(every), details=True))
    return Document(comparison.title, ranking_statements(comparison), (*sections, *_rest(comparison)))


def scoring_document(comparison: ScoreComparison) -> Document:
    """A comparison of scores: means, intervals, tests, and the rest."""
    metrics = list(next(iter(comparison.systems.values())).metrics)
    shown = [tables.means_table(comparison, comparison.systems, "Scoring of judged candidates")]
    shown += [tables.spread_table(comparison, comparison.systems, metrics[0])]
    if comparison.differences:
        shown += [tables.test_table(comparison, metric, "Groups") for metric in metrics]
    drawn = Plot(
        f"scoring_{metrics[0]}",
        f"{printed(metrics[0])} with {comparison.confidence:.0%} intervals over groups; dots are single seeds.",
        partial(plots.metric_figure, comparison, comparison.systems, metrics[0]),
    )
    rows = tuple((Entry(name), Entry(tables.seconds(s.seconds))) for name, s in comparison.systems.items())
    cost = TextTable("Cost of scoring", ("System", "Seconds"), rows, "Mean over seeds, all candidates together.")
    sections = [Section("Scoring", tables=tuple(shown), plots=(drawn,)), Section("Scoring: cost", tables=(cost,))]
    if comparison.paper:
        own = {name: s.metrics for name, s in comparison.systems.items()}
        sections.append(Section("Scoring: the paper's figures", tables=(tables.paper_table(comparison, own),)))
    every = tables.interval_table(comparison.systems, "Scoring, all metrics with intervals")
    sections.append(Section("Scoring: all metrics", tables=(every,), details=True))
    return Document(comparison.title, scoring_statements(comparison), (*sections, *_rest(comparison, "Scoring: ")))


def main_k(comparison: Comparison) -> int:
    """The cut-off tests, slices and plots show: 10, or the nearest below, or the least."""
    return max((k for k in comparison.ks if k <= 10), default=min(comparison.ks))


def _results(comparison: Comparison, main: str, second: str) -> Section:
    shown = [tables.means_table(comparison, comparison.systems, "Item level")]
    for metric in (main, second):
        shown.append(tables.spread_table(comparison, comparison.systems, metric))
        if comparison.differences:
            shown.append(tables.test_table(comparison, metric, "Users"))
    drawn = [
        Plot(
            metric.replace("@", "_"),
            f"{printed(metric)} with {comparison.confidence:.0%} intervals over users; dots are single seeds.",
            partial(plots.metric_figure, comparison, comparison.systems, metric),
        )
        for metric in (main, second)
    ]
    return Section("Results at item level", tables=tuple(shown), plots=tuple(drawn))


def _by_slice(comparison: Comparison, metric: str) -> Section:
    parts = {name: part.n for name, part in next(iter(comparison.systems.values())).slices.items()}
    values: dict[str, Metrics] = {
        name: {
            f"{part} (n={found.n})": found.item[metric]
            for part, found in system.slices.items()
            if found.item is not None
        }
        for name, system in comparison.systems.items()
    }
    note = 'Training events of the target item; "never" are the cold items, which training has not seen.'
    empty = [part for part, n in parts.items() if n == 0]
    note += f" No user's target falls into: {', '.join(empty)}." if empty else ""
    table = tables.plain_means(values, f"{printed(metric)} by training frequency of the target", note)
    caption = f"{printed(metric)} by training events of the target item, with {comparison.confidence:.0%} intervals."
    plot = Plot("slices", caption, partial(plots.slice_figure, comparison, metric))
    return Section("By training frequency", tables=(table,), plots=(plot,))


def _lists(comparison: Comparison, k: int) -> Section:
    columns = (f"coverage@{k}", f"novelty@{k}", f"long_tail@{k}")
    rows = tuple(
        (Entry(name), *(Entry("-" if (v := s.lists[c]) is None else f"{v:.3f}") for c in columns))
        for name, s in comparison.systems.items()
    )
    header = ("System", f"Coverage@{k}", f"Novelty@{k} (bits)", f"Long-tail share@{k}")
    note = (
        "Coverage: share of the catalogue in any user's list. Novelty: mean self-information -log2 p of the items "
        "listed, p = (training events + 1) / (all events + items) (Zhou et al. 2010). Long tail: share of items listed "
        "outside the most popular ones that have a third of all events (Cremonesi et al. 2010). Neither high nor low "
        "is better by itself."
    )
    return Section("What the lists hold", tables=(TextTable("The lists", header, rows, note),))


def _cost(comparison: Comparison, metric: str) -> Section:
    rows = tuple(
        (Entry(name), Entry(tables.seconds(s.train_seconds)), Entry(tables.seconds(s.recommend_seconds)))
        for name, s in comparison.systems.items()
    )
    header = ("System", "Training (s)", "Ranking for all users (s)")
    table = TextTable("Cost", header, rows, "Wall clock, mean over seeds.")
    caption = f"{printed(metric)} against the wall clock of training one seed."
    plot = Plot("cost", caption, partial(plots.cost_figure, comparison, metric))
    return Section("Cost", tables=(table,), plots=(plot,))


def _rest(comparison: Compared, prefix: str = "") -> list[Section]:
    out = []
    if comparison.failures:
        out.append(Section(f"{prefix}Failed or not run", tables=(tables.failure_table(comparison),)))
    notes = tables.note_table(getattr(comparison, "systems", {}))
    if notes is not None:
        out.append(Section(f"{prefix}Notes", tables=(notes,)))
    if comparison.settings:
        out.append(Section(f"{prefix}Settings", settings=comparison.settings, details=True))
    return out
