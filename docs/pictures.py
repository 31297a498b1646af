"""Draws the pictures of the documentation, from what the package computes: ``python -m docs.pictures``.

The masks are those of the tests' plain four-block form; codes, probabilities and lists are those of a tiny random model
that is trained for a few seconds on the small shop of ``examples/own_tables.py``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from docs.picture_tree import Walk, draw_beam, draw_tree, walked
from examples.own_tables import settings, write_small_shop
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from tests import tiny
from tests.tokenizer.four_blocks import CONTENT, PLACEHOLDER, TASK, TOKEN, cascaded_mask

from storerec import STORE, RunOptions, StoreConfig, read_events, read_items
from storerec.config import merged
from storerec.llm.progress import Progress
from storerec.tokenizer import encode_items

COLOURS = {CONTENT: "#4477aa", TOKEN: "#228833", PLACEHOLDER: "#ccaa33", TASK: "#aa3377"}
NAMES = {CONTENT: "content", TOKEN: "token", PLACEHOLDER: "placeholder", TASK: "task"}
CONTENT_TOKENS, DENSE, ANSWER, TASKS = 7, 4, 5, 3
STYLE: dict[str, Any] = {"svg.hashsalt": "storerec", "font.size": 9, "font.family": "DejaVu Sans"}


def blocks() -> torch.Tensor:
    """Block numbers of one sample's tokens."""
    counts = {CONTENT: CONTENT_TOKENS, TOKEN: DENSE, PLACEHOLDER: DENSE, TASK: ANSWER}
    return torch.tensor([block for block, count in counts.items() for _ in range(count)])


def draw_mask(axes: Axes, seen: np.ndarray, rows: np.ndarray) -> None:
    """A mask as squares in the query's colour, with the blocks' borders and names."""
    for query, key in np.argwhere(seen):
        square = (key - 0.45, query - 0.45)
        axes.add_patch(Rectangle(square, 0.9, 0.9, color=COLOURS[int(rows[query])], linewidth=0))
    n = len(rows)
    axes.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), aspect="equal", xticks=[], yticks=[])
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    for start, end in zip(starts, np.append(starts[1:], n), strict=True):
        colour, name, middle = COLOURS[int(rows[start])], NAMES[int(rows[start])], (start + end - 1) / 2
        axes.text(middle, -0.9, name, ha="center", va="bottom", color=colour)
        axes.text(-0.9, middle, name, ha="right", va="center", color=colour)
        for place in (start - 0.5, end - 0.5):
            axes.axhline(place, color="#bbbbbb", linewidth=0.6)
            axes.axvline(place, color="#bbbbbb", linewidth=0.6)


def mask_picture() -> Figure:
    """The four blocks and the cascaded mask."""
    rows = blocks()
    figure = Figure(figsize=(6.2, 5.2))
    axes = figure.add_axes((0.15, 0.07, 0.8, 0.82))
    draw_mask(axes, cascaded_mask(rows).numpy(), rows.numpy())
    axes.set_xlabel("a row is a token that reads, a filled square a token that it sees", labelpad=8)
    return figure


def dual_picture() -> Figure:
    """The same mask as two passes: once per item, once per task."""
    rows = blocks()
    seen, border = cascaded_mask(rows).numpy(), CONTENT_TOKENS + DENSE
    first, second = seen[:border, :border], seen[border:, border:]
    # what makes the factorisation exact: each pass is plainly causal, and nothing crosses
    causal = all((part == np.tri(len(part), dtype=bool)).all() for part in (first, second))
    if not causal or seen[border:, :border].any():
        raise AssertionError("the cascaded mask does not factor into two causal passes")
    figure = Figure(figsize=(9.4, 4.6))
    axes = figure.add_axes((0.09, 0.16, 0.34, 0.66))
    draw_mask(axes, first, rows[:border].numpy())
    axes.set_title("pass 1, once per item", pad=22)
    axes.set_xlabel("outputs of the token block are the dense tokens", labelpad=8)
    height = 0.66 * len(second) / border
    tops = [0.54, 0.06]
    for number, bottom in enumerate(tops):
        axes = figure.add_axes((0.66, bottom, 0.34 * len(second) / border, height * 0.62))
        draw_mask(axes, second, rows[border:].numpy())
        axes.set_title(f"pass 2, task {number + 1}", pad=18, fontsize=9)
        arrow = {"arrowstyle": "-|>", "mutation_scale": 12, "color": "#555555"}
        figure.add_artist(FancyArrowPatch((0.44, 0.36), (0.565, bottom + height * 0.36), **arrow))
    figure.text(0.53, 0.18, "outputs, times a gain,\nfill the placeholder", ha="center", va="center", color="#555555")
    plain, split = TASKS * len(rows), border + TASKS * len(second)
    told = f"{TASKS} tasks of this item: {split} tokens through the layers, {plain} with four blocks"
    figure.text(0.26, 0.02, told, ha="center", color="#555555")
    return figure


def shop(folder: Path) -> STORE:
    """A STORE of 18 items, three codes of four values each."""
    items_file, events_file = write_small_shop(folder)
    own = {
        "clusterer": {"clusters": 4},
        "search": {"beam": 4},
        "tokenizer": {"training": {"max_steps": 40, "epochs": 40}},
        "recommender": {"alone": {"max_steps": 150, "epochs": 150, "learning_rate": 3e-3}},
    }
    base = settings(str(tiny.save("llama", folder / "model")))
    config = StoreConfig.parse(merged(base.model_dump(), own))
    items = read_items(items_file)
    return STORE.fit(items, read_events(events_file, items), config, options=RunOptions(device="cpu", progress=False))


def beam_picture(walk: Walk) -> Figure:
    """The whole tree with the probability of each code, and what a narrow beam keeps."""
    figure = Figure(figsize=(9.4, 0.36 * len(walk.leaves) + 1.4))
    axes = figure.add_axes((0.01, 0.02, 0.98, 0.93))
    draw_beam(axes, walk)
    return figure


def pipeline_picture(store: STORE, walk: Walk, item: int) -> Figure:
    """From an item's text to a list, with the shop's own values."""
    figure = Figure(figsize=(10.5, 3.0))

    def panel(left: float, width: float, title: str) -> Axes:
        axes = figure.add_axes((left, 0.06, width, 0.76))
        axes.set_axis_off()
        axes.set_title(title, fontsize=10, fontweight="bold")
        return axes

    text = "\n".join(f"{name}: {store.catalogue.attribute(name)[item]}" for name in store.catalogue.attributes)
    axes = panel(0.01, 0.15, "text")
    axes.text(0.5, 0.5, text, ha="center", va="center", linespacing=1.6, transform=axes.transAxes)
    one, quiet = store.catalogue.select(np.array([item])), Progress(enabled=False)
    dense = encode_items(store.tokenizer, one, store.options, quiet, layers=store.encoding())[0]
    axes = panel(0.20, 0.17, "dense tokens")
    limit = float(np.abs(dense).max())
    axes.imshow(dense, aspect=3.2, cmap="PiYG", vmin=-limit, vmax=limit)
    axes = panel(0.41, 0.10, "codes")
    for number, code in enumerate(store.table.codes[item].tolist()):
        y = 0.72 - 0.22 * number
        axes.add_patch(Rectangle((0.3, y - 0.08), 0.4, 0.16, facecolor="#eef3f8", edgecolor="#4477aa"))
        axes.text(0.5, y, str(code), ha="center", va="center")
    axes = panel(0.54, 0.20, "tree of all items' codes")
    draw_tree(axes, walk, tuple(store.table.codes[item].tolist()))
    axes = panel(0.80, 0.19, "list")
    axes.text(0.0, 0.95, f"after {walk.history}", fontsize=8, color="#555555", transform=axes.transAxes)
    for number, found in enumerate(walk.recommended):
        axes.text(0.0, 0.75 - 0.17 * number, f"{number + 1}  {found.title}", va="center", transform=axes.transAxes)
    for left, label in ((0.165, "language\nmodel"), (0.375, "k-means"), (0.51, ""), (0.75, "beam\nsearch")):
        arrow = {"arrowstyle": "-|>", "mutation_scale": 12, "color": "#555555"}
        figure.add_artist(FancyArrowPatch((left, 0.44), (left + 0.035, 0.44), **arrow))
        figure.text(left + 0.017, 0.52, label, ha="center", va="bottom", fontsize=8, color="#555555")
    return figure


def main() -> None:
    """Write all pictures."""
    import matplotlib

    parser = argparse.ArgumentParser(description="Draw the pictures of the documentation.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images", help="folder of the pictures")
    parser.add_argument("--format", default="svg", choices=("svg", "png"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary, matplotlib.rc_context(STYLE):
        store = shop(Path(temporary))
        walk = walked(store, history=[0, 3, 1])
        pictures = {
            "mask": mask_picture(),
            "passes": dual_picture(),
            "beam": beam_picture(walk),
            "pipeline": pipeline_picture(store, walk, item=4),
        }
        dated = {"metadata": {"Date": None}} if args.format == "svg" else {"dpi": 110}
        for name, figure in pictures.items():
            figure.savefig(args.out / f"{name}.{args.format}", facecolor="white", **dated)


if __name__ == "__main__":
    main()
