"""All results of a folder as one Markdown table, and a plot of the ratios beside their bounds.

python -m benchmarks.table --out runs/bench
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

from benchmarks.harness import arguments
from storerec.storage import atomic


def amount(value: float | None, unit: str) -> str:
    """A figure with three digits."""
    return "" if value is None else f"{value:.3g} {unit}"


def table(results: list[dict[str, Any]]) -> str:
    """Markdown of all rows."""
    lines = [
        "| | ours | other | ratio | bound | goal | reached | how they compare |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for result in results:
        for one in result["rows"]:
            times = one["ratio"] is not None
            reached = one["ratio"] >= one["goal"] if times else one["ours"] <= one["goal"]
            bound, goal = (f"{one[key]:.2f}x" if times else f"{one[key]:.3g}" for key in ("bound", "goal"))
            ratio = f"{one['ratio']:.2f}x" if times else ""
            unit = one.get("unit", "s")
            cells = [one["what"], amount(one["ours"], unit), amount(one["other"], unit), ratio, bound, goal]
            cells += ["yes" if reached else "NO", f"{one['same']} ({one['counted']})"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(results: list[dict[str, Any]], place: Path) -> None:
    """Ratios and bounds as bars."""
    rows = [one for result in results for one in result["rows"] if one["ratio"] is not None and one["bound"] < 100]
    figure, axis = plt.subplots(figsize=(9, 0.4 * len(rows) + 1.2))
    height = range(len(rows))
    axis.barh(height, [one["bound"] for one in rows], color="0.85", label="bound")
    axis.barh(height, [one["ratio"] for one in rows], height=0.5, color="tab:blue", label="measured")
    axis.set_yticks(height, [one["what"] for one in rows], fontsize=7)
    axis.invert_yaxis()
    axis.set_xlabel("times as fast")
    axis.legend(fontsize=7)
    figure.tight_layout()
    with atomic(place) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    plt.close(figure)


def plot_sizes(results: list[dict[str, Any]], place: Path) -> None:
    """Cost against size, a panel for each curve."""
    curves = [one for result in results for one in result.get("curves", [])]
    if not curves:
        return
    figure, axes = plt.subplots(1, len(curves), figsize=(3.4 * len(curves), 3.2), squeeze=False)
    for axis, one in zip(axes[0], curves, strict=True):
        for name, values in one["lines"].items():
            axis.plot(one["sizes"], values, marker="o", markersize=3, label=name.replace("_", " "))
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_title(one["title"], fontsize=8)
        axis.set_xlabel(one["across"], fontsize=7)
        axis.set_ylabel(one["up"], fontsize=7)
        axis.tick_params(labelsize=7)
        axis.legend(fontsize=7)
    figure.tight_layout()
    with atomic(place) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    plt.close(figure)


def main() -> None:
    """Read all results and write ``table.md``, ``ratios.png`` and ``sizes.png``."""
    given = arguments(__doc__)
    found = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(given.out.glob("*.json"))]
    results = [result for result in found if "rows" in result]
    if not results:
        raise SystemExit(f"{given.out}: no results; run make bench")
    commands = "\n".join(f"    {result['command']}" for result in results)
    machine = results[-1]["machine"]
    about = f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, torch {machine['torch']}"
    parts = ["# Benchmarks", f"{about}; GPU: {machine['gpu'] or 'none'}. Made by", commands, table(results)]
    text = "\n\n".join([*parts, "![Ratios](ratios.png)", "![Cost against size](sizes.png)"]) + "\n"
    with atomic(given.out / "table.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    plot(results, given.out / "ratios.png")
    plot_sizes(results, given.out / "sizes.png")
    print(text)


if __name__ == "__main__":
    main()
