"""Tables of a comparison that ranking and scoring share: means, intervals, seeds, tests, figures printed elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from storerec.evaluation.bootstrap import Interval
from storerec.evaluation.comparison import Compared, Measured
from storerec.evaluation.document import Entry, TextTable
from storerec.evaluation.pairing import Difference, Metrics
from storerec.evaluation.report import printed
from storerec.evaluation.statements import ALPHA

Systems = Mapping[str, Measured]
NONE = Entry("-")


def means_table(comparison: Compared, systems: Systems, title: str, note: str = "") -> TextTable:
    """One row per system, one column per metric; highest means bold, differences from the reference marked."""
    return plain_means(
        {name: system.main for name, system in systems.items()},
        title,
        note,
        labels=_labels(comparison, systems),
        marks=comparison.differences,
    )


def plain_means(
    values: Mapping[str, Metrics],
    title: str,
    note: str = "",
    *,
    labels: Mapping[str, str] | None = None,
    marks: Mapping[str, Mapping[str, Difference]] | None = None,
) -> TextTable:
    """Means of metrics by system; those that lack one get a dash."""
    metrics = list(dict.fromkeys(metric for own in values.values() for metric in own))
    best = {m: max(own[m].value for own in values.values() if m in own) for m in metrics}
    rows = []
    for name, own in values.items():
        entries = [Entry((labels or {}).get(name, name))]
        for metric in metrics:
            found = own.get(metric)
            mark = _mark((marks or {}).get(name, {}).get(metric))
            entries.append(
                Entry(number(found.value), bold=_bold(found.value, best[metric], len(values)), mark=mark)
                if found
                else NONE
            )
        rows.append(tuple(entries))
    return TextTable(title, ("System", *(printed(m) for m in metrics)), tuple(rows), note)


def spread_table(comparison: Compared, systems: Systems, metric: str) -> TextTable:
    """One metric's mean, interval, each seed's own mean and their standard deviation."""
    best = max(system.main[metric].value for system in systems.values())
    rows = []
    for name, system in systems.items():
        mean, std = system.main[metric], system.seed_std[metric]
        each = ", ".join(
            f"{seed}: {number(v)}" for seed, v in zip(system.seeds, system.seed_means[metric], strict=True)
        )
        rows.append(
            (
                Entry(_labels(comparison, systems)[name]),
                Entry(number(mean.value), bold=_bold(mean.value, best, len(systems))),
                Entry(_range(mean)),
                Entry("-" if std is None else number(std)),
                Entry(each),
            )
        )
    header = ("System", "Mean", f"{comparison.confidence:.0%} interval", "SD over seeds", "Each seed")
    return TextTable(f"{printed(metric)}: intervals and seeds", header, tuple(rows))


def test_table(comparison: Compared, metric: str, over: str) -> TextTable:
    """Reference minus each other system for one metric, wins and losses alike."""
    rows = [
        (
            Entry(name),
            Entry(f"{found[metric].value:+.4f}"),
            Entry(_range(found[metric], "+")),
            Entry(p_value(found[metric].p)),
            Entry(p_value(found[metric].p_adjusted)),
            Entry(f"{found[metric].better} / {found[metric].worse}"),
            Entry(_verdict(found[metric])),
        )
        for name, found in comparison.differences.items()
    ]
    interval = f"{comparison.confidence:.0%} interval"
    header = ("Other system", "Difference", interval, "p", "p (Holm)", f"{over} better / worse", "Reference is")
    return TextTable(f"{comparison.reference} minus each other system: {printed(metric)}", header, tuple(rows))


def all_tests_table(comparison: Compared) -> TextTable:
    """Reference minus each other system for all metrics, with adjusted p-values."""
    metrics = list(next(iter(comparison.differences.values())))
    rows = tuple(
        (Entry(name), *(Entry(f"{found[m].value:+.4f} (p {p_value(found[m].p_adjusted)})") for m in metrics))
        for name, found in comparison.differences.items()
    )
    title = f"{comparison.reference} minus each other system: all metrics, p after Holm's correction"
    return TextTable(title, ("Other system", *(printed(m) for m in metrics)), rows)


def interval_table(systems: Systems, title: str, metrics: Sequence[str] | None = None) -> TextTable:
    """Means with intervals of all metrics."""
    metrics = metrics or list(next(iter(systems.values())).main)
    rows = tuple(
        (Entry(name), *(Entry(f"{number(s.main[m].value)} {_range(s.main[m])}") for m in metrics))
        for name, s in systems.items()
    )
    return TextTable(title, ("System", *(printed(m) for m in metrics)), rows)


def paper_table(comparison: Compared, ours: Mapping[str, Metrics]) -> TextTable:
    """Our figures beside those printed elsewhere, by systems of either."""
    metrics = list(dict.fromkeys(m for figures in comparison.paper.values() for m in figures))
    rows = []
    for name in dict.fromkeys([*comparison.paper, *ours]):
        entries = [Entry(name)]
        for metric in metrics:
            own, theirs = ours.get(name, {}).get(metric), comparison.paper.get(name, {}).get(metric)
            entries.append(Entry(f"{number(own.value) if own else '-'} / {'-' if theirs is None else number(theirs)}"))
        rows.append(tuple(entries))
    note = "Each entry is ours / theirs. Data, splits, models and budgets differ from the paper's unless said otherwise"
    if any(m.startswith("paper_ndcg") for m in metrics):
        note += "; NDCG here is the paper's formula, log2(K + 1) * NDCG@20, which is no NDCG"
    return TextTable(
        "Beside the paper's printed figures", ("System", *(printed(m) for m in metrics)), tuple(rows), f"{note}."
    )


def failure_table(comparison: Compared) -> TextTable:
    """What failed or did not run."""
    rows = tuple((Entry(name), Entry(" ".join(reason.split()))) for name, reason in comparison.failures.items())
    return TextTable("Failed or not run", ("What", "Reason"), rows, prose=True)


def note_table(systems: Systems) -> TextTable | None:
    """Notes on systems; None when there are none."""
    rows = tuple((Entry(name), Entry("; ".join(s.notes))) for name, s in systems.items() if s.notes)
    return TextTable("Notes on systems", ("System", "Notes"), rows, prose=True) if rows else None


def number(value: float) -> str:
    """A metric as printed."""
    return f"{value:.4f}"


def p_value(p: float) -> str:
    """A p-value as printed."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def seconds(values: Sequence[float | None]) -> str:
    """Mean of known durations."""
    known = [v for v in values if v is not None]
    return f"{sum(known) / len(known):.1f}" if known else "-"


def _bold(value: float, best: float, systems: int) -> bool:
    return systems > 1 and value == best > 0


def _mark(found: Difference | None) -> Literal["", "up", "down"]:
    if found is None or found.p_adjusted >= ALPHA or found.value == 0:
        return ""
    return "down" if found.value > 0 else "up"


def _verdict(found: Difference) -> str:
    return {"down": "ahead", "up": "behind", "": "not told apart"}[_mark(found)]


def _range(interval: Interval, sign: str = "") -> str:
    return f"[{interval.low:{sign}.4f}, {interval.high:{sign}.4f}]"


def _labels(comparison: Compared, systems: Systems) -> dict[str, str]:
    return {name: f"{name} (reference)" if name == comparison.reference else name for name in systems}
