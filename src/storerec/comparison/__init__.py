"""Every system of the paper on the same users: a grid of stages, then one report."""

from __future__ import annotations

from collections.abc import Sequence

from storerec.comparison.compare import Grid, Results, compare
from storerec.comparison.config import PRESETS, ComparisonConfig, TuningConfig
from storerec.comparison.datasets import ComparisonData, load_data
from storerec.comparison.scoring import resolve_scorers
from storerec.comparison.scoring_config import ScoringConfig
from storerec.comparison.work import check_own_folder
from storerec.systems.recipe import Recipe
from storerec.systems.registry import GROUPS, RECIPES, SCORERS, chosen

__all__ = [
    "PRESETS",
    "ComparisonConfig",
    "ComparisonData",
    "Grid",
    "Results",
    "ScoringConfig",
    "TuningConfig",
    "check_own_folder",
    "compare",
    "load_data",
    "resolve",
    "resolve_scorers",
]


def resolve(names: Sequence[str]) -> tuple[Recipe, ...]:
    """Recipes of the systems that rank, by names of systems and groups; ConfigError for an unknown one."""
    return tuple(RECIPES[name] for name in chosen(names, GROUPS, (*RECIPES, *SCORERS)) if name in RECIPES)
