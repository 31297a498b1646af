"""A code tree with the probabilities of its codes, and the beam that searches it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from storerec import STORE
from storerec.pipeline import Recommendation
from storerec.pipeline.why import why

Prefix = tuple[int, ...]
NAMED = 2  # titles at a leaf
KEPT, LEFT = "#4477aa", "#bbbbbb"


@dataclass(frozen=True)
class Walk:
    """One search, level by level.

    Attributes
    ----------
    history: titles of what the user chose.
    leaves: code tuples of the catalogue, in order, and the titles of their items.
    conditional: probability of the last code of each prefix, given history and the codes before it.
    total: product of these along each prefix.
    kept: prefixes that the beam keeps; ``reached``, all whose probability it asks for.
    recommended: what the package's own search finds with that beam.
    """

    history: str
    leaves: dict[Prefix, list[str]]
    conditional: dict[Prefix, float]
    total: dict[Prefix, float]
    kept: set[Prefix]
    reached: set[Prefix]
    recommended: list[Recommendation]


def walked(store: STORE, history: list[int]) -> Walk:
    """Search the tree after ``history`` (catalogue rows), and compare with what the package's search finds."""
    beam = store.config.search.beam
    titles, codes = store.catalogue.titles, [tuple(row) for row in store.table.codes.tolist()]
    leaves: dict[Prefix, list[str]] = {leaf: [] for leaf in sorted(set(codes))}
    for row, leaf in enumerate(codes):
        leaves[leaf].append(titles[row])
    conditional: dict[Prefix, float] = {}
    for row, leaf in enumerate(codes):
        for level, step in enumerate(why(store, np.array(history), row).steps, 1):
            conditional[leaf[:level]] = step.chosen.probability
    total: dict[Prefix, float] = {(): 1.0}
    for prefix in sorted(conditional, key=len):
        total[prefix] = total[prefix[:-1]] * conditional[prefix]
    kept: set[Prefix] = {()}
    reached: set[Prefix] = set()
    for level in range(1, len(codes[0]) + 1):
        open_now = [prefix for prefix in conditional if len(prefix) == level and prefix[:-1] in kept]
        reached |= set(open_now)
        kept |= set(sorted(open_now, key=total.__getitem__, reverse=True)[:beam])
    found = store.recommend([store.catalogue.ids[row] for row in history], k=beam)
    if not {one.codes for one in found} <= kept:
        raise AssertionError("the picture's beam is not the search's")
    return Walk(", ".join(titles[row] for row in history), leaves, conditional, total, kept, reached, found)


def places(walk: Walk) -> dict[Prefix, tuple[float, float]]:
    """Where each node stands: leaves in order, others in the middle of what is below them."""
    heights = {leaf: float(-number) for number, leaf in enumerate(walk.leaves)}
    depth = len(next(iter(walk.leaves)))
    for level in range(depth - 1, -1, -1):
        for prefix in {leaf[:level] for leaf in walk.leaves}:
            below = [heights[leaf[: level + 1]] for leaf in walk.leaves if leaf[:level] == prefix]
            heights[prefix] = (min(below) + max(below)) / 2
    return {prefix: (float(len(prefix)), height) for prefix, height in heights.items()}


def draw_tree(axes: Axes, walk: Walk, path: Prefix) -> None:
    """The bare tree, with the way to one item."""
    at = places(walk)
    for prefix, (x, y) in at.items():
        on = prefix == path[: len(prefix)]
        colour = KEPT if on else LEFT
        if prefix:
            above = at[prefix[:-1]]
            axes.plot([above[0], x], [above[1], y], color=colour, linewidth=2 if on else 0.8, zorder=2 * on)
        axes.plot(x, y, "o", markersize=4, color=colour, zorder=2 * on + 1)


def draw_beam(axes: Axes, walk: Walk) -> None:
    """The tree with codes, probabilities and titles; kept nodes in colour, left ones grey."""
    at, depth = places(walk), len(next(iter(walk.leaves)))
    order = [one.codes for one in walk.recommended]
    for prefix, (x, y) in at.items():
        on, asked = prefix in walk.kept, not prefix or prefix in walk.reached
        colour, ink = (KEPT, "#222222") if on else (LEFT, "#888888")
        if prefix:
            left, above = at[prefix[:-1]]
            axes.plot([left, x], [above, y], color=colour, linewidth=1.8 if on else 0.8, zorder=2 * on)
        if prefix and asked:
            box = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}
            where = (left + 0.72 * (x - left), above + 0.72 * (y - above))
            label = f"{walk.conditional[prefix]:.2f}"
            axes.text(*where, label, fontsize=7, ha="center", va="center", zorder=9, color=ink, bbox=box)
        face = {"boxstyle": "circle,pad=0.25", "facecolor": colour if on else "#eeeeee", "edgecolor": colour}
        name, white = str(prefix[-1]) if prefix else "root", "white" if on else "#666666"
        axes.text(x, y, name, ha="center", va="center", fontsize=8, color=white, bbox=face, zorder=10)
        if len(prefix) == depth:
            rank = f", {order.index(prefix) + 1}. in the list" if prefix in order else ""
            told = f"{walk.total[prefix]:.3f}{rank}:  " if prefix in walk.reached else ""
            more = len(walk.leaves[prefix]) - NAMED
            text = told + "; ".join(walk.leaves[prefix][:NAMED]) + (f" and {more} more" if more > 0 else "")
            axes.text(x + 0.09, y, text, va="center", fontsize=8, color=ink)
    axes.set(xlim=(-0.12, depth + 2.0), ylim=(min(y for _, y in at.values()) - 0.8, 1.6))
    for level in range(depth):
        axes.text(level + 1, 1.1, f"code {level + 1}", ha="center", color="#555555")
    axes.text(depth + 0.35, 1.1, "probability of the codes, items", color="#555555")
    axes.text(-0.1, min(y for _, y in at.values()) - 0.6, f"history: {walk.history}", ha="left", color="#555555")
    axes.set_axis_off()
