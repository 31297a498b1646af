"""What the numbers of a comparison rest on, in sentences; no table of ours stands without them."""

from __future__ import annotations

from collections.abc import Mapping

from storerec.evaluation.comparison import Compared, Comparison, Measured
from storerec.evaluation.score_comparison import ScoreComparison
from storerec.evaluation.significance import COVERS

ALPHA = 0.05
"""Adjusted p-values below this are marked."""


def ranking_statements(comparison: Comparison) -> tuple[str, ...]:
    """Users, protocol, ranking, exclusion, seeds, intervals, tests, command and machine."""
    left = "are left out of its list" if comparison.exclude_history else "are not left out of its list"
    return (
        f"Full ranking of all {comparison.n_items} items for {comparison.users} users with one target each; protocol "
        f"{comparison.protocol}. No sampled candidates.",
        f"Items of a user's own history {left}, for every system; {comparison.targets_in_history} targets stand in "
        "their user's history.",
        *(f"{note[:1].upper()}{note[1:]}." for note in comparison.notes),
        *_common(comparison, comparison.systems, "users"),
    )


def scoring_statements(comparison: ScoreComparison) -> tuple[str, ...]:
    """Groups, candidates, ties, seeds, intervals, tests, command and machine."""
    return (
        f"{comparison.candidates} candidates in {comparison.groups} groups (users or impressions), "
        f"{comparison.positives} of them positive; groups left out because they lack a positive or a negative: "
        f"{comparison.dropped}.",
        "AUC, MRR and NDCG per group, then averaged, as in MIND's official evaluation; equal scores count as the mean "
        "over all their orders.",
        *(f"{note[:1].upper()}{note[1:]}." for note in comparison.notes),
        *_common(comparison, comparison.systems, "groups"),
    )


def seeds_in_words(systems: Mapping[str, Measured]) -> str:
    """Seeds of the systems, the commonest set first."""
    by_seeds: dict[tuple[int, ...], list[str]] = {}
    for name, system in systems.items():
        by_seeds.setdefault(tuple(sorted(system.seeds)), []).append(name)
    sets = sorted(by_seeds.items(), key=lambda pair: -len(pair[1]))
    first = ", ".join(map(str, sets[0][0]))
    rest = "; ".join(f"{', '.join(map(str, seeds))} only: {', '.join(names)}" for seeds, names in sets[1:])
    return f"{first} ({rest})" if rest else first


def _common(comparison: Compared, systems: Mapping[str, Measured], over: str) -> tuple[str, ...]:
    out = [
        f"Values are means over {over} of each one's average over the seeds. Seeds of training: "
        f"{seeds_in_words(systems)}.",
        f"Brackets: {comparison.confidence:.0%} percentile bootstrap intervals over {over}, paired for differences; "
        f"{comparison.bootstrap_samples} resamples, the same for all systems; seed {comparison.seed}. They are not "
        "corrected for many systems and say nothing of other seeds: see the spread over seeds.",
    ]
    if comparison.differences:
        covers = COVERS if over == "users" else COVERS.replace("users", over)
        out += [
            f"{covers}. {comparison.flips} flips; Holm's correction over the {len(comparison.differences)} other "
            "systems, for each metric by itself.",
            f"Bold is the highest mean of a column, whether or not it can be told from the next. ↑ and ↓: better or "
            f"worse than {comparison.reference} with adjusted p < {ALPHA}.",
        ]
    elif comparison.reference is None:
        out.append("The reference gave no result, so nothing was tested.")
    labels = {"command": "Command", "machine": "Machine"}
    given = {label: comparison.settings.get(key) for key, label in labels.items()}
    return (*out, *(f"{label}: {_in_words(value)}" for label, value in given.items() if value))


def _in_words(value: object) -> str:
    """A setting in one line; of several values each with its name."""
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else str(value)
