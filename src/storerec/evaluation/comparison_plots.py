"""Plots of a comparison, drawn anew for each format (dark text for PNG, the page's own colour for HTML)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from storerec.evaluation.bootstrap import Interval
from storerec.evaluation.comparison import Compared, Comparison, Measured
from storerec.evaluation.plots import new_figure
from storerec.evaluation.report import printed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REFERENCE, OTHER = "#d1495b", "#3d7ea6"
"""Colours that can be read on light and on dark pages."""

_MARKERS = "osD^vP*X"


def metric_figure(comparison: Compared, systems: Mapping[str, Measured], metric: str) -> Figure:
    """One metric of all systems with intervals; small dots are the seeds' own means."""
    figure, (axes,) = new_figure(8, 1.2 + 0.34 * len(systems))
    for row, (name, system) in enumerate(systems.items()):
        _interval(axes, row, system.main[metric], name == comparison.reference)
        if len(system.seeds) > 1:
            each = system.seed_means[metric]
            axes.plot(each, [row + 0.22] * len(each), ".", color="grey", markersize=4)
    _name_rows(axes, list(systems))
    axes.set_xlabel(f"{printed(metric)} ({comparison.confidence:.0%} interval; small dots: single seeds)")
    return figure


def slice_figure(comparison: Comparison, metric: str) -> Figure:
    """One metric by training frequency of the target: a panel per slice, systems in the same rows."""
    first = next(iter(comparison.systems.values())).slices
    parts = [name for name, part in first.items() if part.n > 0]
    figure, panels = new_figure(3 + 2.2 * len(parts), 1.5 + 0.34 * len(comparison.systems), panels=len(parts))
    for number, (axes, part) in enumerate(zip(panels, parts, strict=True)):
        for row, (name, system) in enumerate(comparison.systems.items()):
            found = system.slices[part].item
            if found is not None:
                _interval(axes, row, found[metric], name == comparison.reference)
        _name_rows(axes, list(comparison.systems) if number == 0 else [""] * len(comparison.systems))
        axes.set_title(f"{part} (n={first[part].n})", fontsize=9)
    # One scale for all panels: a slice's values must not look large because its axis is short.
    ends = np.array([axes.get_xlim() for axes in panels])
    for axes in panels:
        axes.set_xlim(ends[:, 0].min(), ends[:, 1].max())
    figure.supxlabel(f"{printed(metric)} by training events of the target item", fontsize=9)
    return figure


def cost_figure(comparison: Comparison, metric: str) -> Figure:
    """One metric against the mean wall clock of training; below a second is drawn at one."""
    from matplotlib import colormaps

    figure, (axes,) = new_figure(8.5, 1.5 + max(3.0, 0.26 * len(comparison.systems)))
    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    for number, (name, system) in enumerate(comparison.systems.items()):
        known = [s for s in system.train_seconds if s is not None]
        if not known:
            continue
        found = system.main[metric]
        axes.errorbar(
            max(float(np.mean(known)), 1.0),
            found.value,
            yerr=_errors(found),
            fmt=_MARKERS[number // len(colours) % len(_MARKERS)],
            color=colours[number % len(colours)],
            capsize=2,
            label=_literal(name),
        )
    axes.set_xscale("log")
    axes.set_xlabel("Training of one seed (s, wall clock; less than 1 s stands at 1)")
    axes.set_ylabel(f"{printed(metric)} ({comparison.confidence:.0%} interval)")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def _interval(axes: Axes, row: int, found: Interval, reference: bool) -> None:
    colour = REFERENCE if reference else OTHER
    axes.errorbar(found.value, row, xerr=_errors(found), fmt="o", color=colour, capsize=3, markersize=5)


def _errors(found: Interval) -> np.ndarray:
    # A percentile interval of a skewed sample may leave out its own mean; an error bar cannot.
    return np.array([[max(found.value - found.low, 0)], [max(found.high - found.value, 0)]])


def _name_rows(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), [_literal(name) for name in names], fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", alpha=0.3)


def _literal(name: str) -> str:
    """Keep matplotlib from reading a dollar as the start of a formula, and hide no name from the legend."""
    text = name.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
