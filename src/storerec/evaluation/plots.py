"""Plots as PNG files, through matplotlib's object interface: no display, no global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from storerec.codes.report import CodeReport
from storerec.codes.table import CodeTable
from storerec.errors import DataError
from storerec.evaluation.evaluation import Evaluation
from storerec.evaluation.report import printed
from storerec.storage import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_slices(evaluation: Evaluation, path: Path | str, metric: str | None = None) -> None:
    """Bars of one metric per slice and system with bootstrap intervals; slices without users stay empty.

    ``metric`` is an item-level name such as ``recall@10`` (the default, or Recall at the largest K). Writes a
    PNG atomically; raises :class:`DataError` for a metric that was not measured.
    """
    known = evaluation.systems[evaluation.reference].item_level
    metric = metric or ("recall@10" if "recall@10" in known else f"recall@{max(evaluation.ks)}")
    if metric not in known:
        raise DataError(f"metric '{metric}' was not measured; measured: {', '.join(known)}")
    figure, (axes,) = new_figure(8, 4.5)
    names = list(evaluation.systems[evaluation.reference].slices)
    width = 0.8 / len(evaluation.systems)
    for number, (system, result) in enumerate(evaluation.systems.items()):
        present = [(x, part.item[metric]) for x, part in enumerate(result.slices.values()) if part.item]
        x = np.array([p[0] for p in present]) + (number - (len(evaluation.systems) - 1) / 2) * width
        value = np.array([p[1].value for p in present])
        # A percentile interval of a skewed sample may leave out its own mean; an error bar cannot.
        low = np.maximum(value - np.array([p[1].low for p in present]), 0)
        high = np.maximum(np.array([p[1].high for p in present]) - value, 0)
        axes.bar(x, value, width, yerr=np.stack([low, high]), capsize=3, label=system)
    sizes = [part.n for part in evaluation.systems[evaluation.reference].slices.values()]
    axes.set_xticks(range(len(names)), [f"{name}\nn={n}" for name, n in zip(names, sizes, strict=True)])
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_xlabel("Training events of the target item")
    axes.set_ylabel(f"{printed(metric)} ({evaluation.confidence:.0%} interval)")
    axes.legend()
    save_png(figure, path)


def plot_code_utilisation(codes: CodeReport | CodeTable, path: Path | str) -> None:
    """Codes available, codes used and perplexity per position; from a table also the use of each code.

    Writes a PNG atomically.
    """
    report = codes if isinstance(codes, CodeReport) else codes.report()
    figure, (axes, *more) = new_figure(9, 4.5, panels=2 if isinstance(codes, CodeTable) else 1)
    if isinstance(codes, CodeTable):
        _plot_usage(more[0], codes)
    x = np.arange(len(report.positions))
    for shift, (label, attribute) in enumerate(
        [("codes available", "size"), ("codes used", "used"), ("perplexity", "perplexity")]
    ):
        heights = [getattr(position, attribute) for position in report.positions]
        axes.bar(x + (shift - 1) * 0.27, heights, 0.27, label=label)
    axes.set_xticks(x, [str(i + 1) for i in x])
    axes.set_xlabel("Code position")
    axes.set_ylabel("Codes")
    axes.set_ylim(top=1.3 * max(position.size for position in report.positions))  # room for the legend
    shared = f"{report.colliding_share:.1%} share a tuple"
    axes.set_title(f"{report.items} items, {shared} ({report.policy})", fontsize=9)
    axes.legend(fontsize=8)
    save_png(figure, path)


def plot_losses(phases: Mapping[str, Sequence[Mapping[str, Any]]], path: Path | str) -> None:
    """Loss curves, one panel per phase.

    ``phases`` maps a phase's name to records in order, dicts all with ``step``, or all with ``epoch``, and
    any of ``loss`` (training) and further numbers whose name ends in ``loss`` (such as ``validation_loss``).
    Writes a PNG atomically; raises :class:`DataError` when a phase has no loss to plot.
    """
    if not phases:
        raise DataError("no training phase to plot")
    figure, panels = new_figure(5 * len(phases), 4, panels=len(phases))
    for axes, (phase, records) in zip(panels, phases.items(), strict=True):
        unit = "step" if any("step" in r for r in records) else "epoch"
        numbers = [name for r in records for name, value in r.items() if value is not None]
        curves = sorted({name for name in numbers if name.endswith("loss")})
        if not curves:
            raise DataError(f"phase '{phase}' has no loss to plot")
        for curve in curves:
            points = [(r[unit], r[curve]) for r in records if r.get(curve) is not None]
            axes.plot(*zip(*points, strict=True), marker="." if len(points) < 40 else "", label=curve)
        axes.set_title(phase)
        axes.set_xlabel(unit.capitalize())
        axes.locator_params(axis="x", integer=True)
        axes.set_ylabel("Loss (nats)")
        axes.legend()
    save_png(figure, path)


def _plot_usage(axes: Axes, table: CodeTable) -> None:
    """Share of the items on each code, codes of a position sorted by it."""
    for j, size in enumerate(table.sizes.tolist()):
        share = np.sort(np.bincount(table.codes[:, j], minlength=size))[::-1] / len(table)
        axes.plot(np.arange(1, size + 1), 100 * share, label=f"position {j + 1}")
    axes.set_xlabel("Code, by rank of use")
    axes.set_ylabel("Share of items (%)")
    axes.legend(fontsize=8)


def new_figure(width: float, height: float, *, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """Make an empty figure (inches) with panels side by side, and no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(1, panels, i + 1) for i in range(panels)]


def save_png(figure: Figure, path: Path | str) -> None:
    """Write a figure as PNG, atomically."""
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png")
