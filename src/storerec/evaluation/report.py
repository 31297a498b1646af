"""Evaluations as rich tables, with what one must know to read them in the caption."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storerec.evaluation.bootstrap import Interval

if TYPE_CHECKING:
    from rich.table import Table

    from storerec.evaluation.evaluation import Evaluation

_PRINTED = {
    "recall": "Recall",
    "ndcg": "NDCG",
    "mrr": "MRR",
    "auc": "AUC",
    "coverage": "Coverage",
    "paper_ndcg": "Paper's NDCG",
}


def metric_table(evaluation: Evaluation) -> Table:
    """All metrics, one row each, one column per system; the best value of a row is bold.

    Item level first, then tuple level (where measured), coverage and seconds.
    """
    table = _table(evaluation, "Evaluation")
    results = list(evaluation.systems.values())
    for metric in results[0].item_level:
        _row(table, printed(metric), [r.item_level[metric] for r in results])
    if all(r.tuple_level is not None for r in results):
        table.add_section()
        for metric in results[0].item_level:
            _row(table, f"{printed(metric)} (tuple level)", [(r.tuple_level or {})[metric] for r in results])
    table.add_section()
    for name in results[0].coverage:
        table.add_row(printed(name), *(f"{r.coverage[name]:.4f}" for r in results))
    table.add_row("Seconds", *(f"{r.seconds:.1f}" for r in results))
    return table


def slice_table(evaluation: Evaluation, metric: str | None = None) -> Table:
    """One metric per slice of the target's training frequency; default Recall at the largest K up to 10."""
    small = [k for k in evaluation.ks if k <= 10] or [min(evaluation.ks)]
    metric = metric or f"recall@{max(small)}"
    title = f"{printed(metric)} by training events of the target item"
    table = _table(evaluation, title, first="Target seen")
    results = list(evaluation.systems.values())
    for name, part in results[0].slices.items():
        label = f"{name} (n={part.n})"
        if part.n == 0:
            table.add_row(label, *("-" for _ in results))
        else:
            _row(table, label, [(r.slices[name].item or {})[metric] for r in results])
    return table


def difference_table(evaluation: Evaluation) -> Table:
    """Reference minus each other system with paired intervals; bold where these exclude zero."""
    table = _table(evaluation, "Paired differences, item level", columns=False)
    for name in evaluation.differences:
        table.add_column(f"{evaluation.reference} - {name}", justify="right")
    for metric in evaluation.systems[evaluation.reference].item_level:
        cells = []
        for other in evaluation.differences.values():
            cell = _cell(other[metric], "+")
            clear = other[metric].low > 0 or other[metric].high < 0
            cells.append(f"[bold]{cell}[/bold]" if clear else cell)
        table.add_row(printed(metric), *cells)
    return table


def printed(metric: str) -> str:
    """Name of a metric for readers: ``ndcg@10`` becomes ``NDCG@10``."""
    kind, _, k = metric.partition("@")
    return f"{_PRINTED.get(kind, kind)}@{k}" if k else _PRINTED.get(kind, kind)


def caption(evaluation: Evaluation) -> str:
    """What the numbers rest on: ranking, users, protocol, exclusion, intervals, seed."""
    history = "history items excluded" if evaluation.exclude_history else "history items not excluded"
    parts = [
        f"full ranking of {evaluation.n_items} items",
        f"n = {evaluation.users} users",
        *([f"protocol {evaluation.protocol}"] if evaluation.protocol else []),
        f"{history} ({evaluation.targets_in_history} targets stand in their own history)",
        f"{evaluation.confidence:.0%} bootstrap intervals ({evaluation.bootstrap_samples} resampled sets)",
        f"seed {evaluation.seed}",
        *evaluation.notes,
    ]
    return "; ".join(parts)


def _table(evaluation: Evaluation, title: str, *, first: str = "Metric", columns: bool = True) -> Table:
    from rich.table import Table

    table = Table(title=title, caption=caption(evaluation))
    table.add_column(first)
    for name in evaluation.systems if columns else ():
        table.add_column(name, justify="right")
    return table


def _row(table: Table, label: str, intervals: list[Interval]) -> None:
    best = max(interval.value for interval in intervals)
    cells = [_cell(i) for i in intervals]
    bold = [len(intervals) > 1 and best > 0 and i.value == best for i in intervals]
    table.add_row(label, *(f"[bold]{c}[/bold]" if b else c for c, b in zip(cells, bold, strict=True)))


def _cell(interval: Interval, sign: str = "") -> str:
    # A backslash keeps rich from reading the bracket as markup.
    return f"{interval.value:{sign}.4f} \\[{interval.low:{sign}.4f}, {interval.high:{sign}.4f}]"
