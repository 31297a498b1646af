"""All systems of the comparison, by name and by group."""

from __future__ import annotations

from collections.abc import Sequence

from storerec.errors import ConfigError
from storerec.systems.baselines import MARKOV, POPULARITY, SASREC
from storerec.systems.lcrec import LC_REC
from storerec.systems.p5 import P5
from storerec.systems.scorer_recipe import SCORER_RECIPES
from storerec.systems.tiger import TIGER, TIGER_LLM
from storerec.systems.variants import ABLATIONS, STORE

RECIPES = {r.name: r for r in (POPULARITY, MARKOV, SASREC, P5, TIGER, TIGER_LLM, LC_REC, STORE, *ABLATIONS)}
"""Systems that rank the catalogue, in the order of tables."""

RETRIEVAL = tuple(name for name, recipe in RECIPES.items() if recipe.group != "ablation")
"""The paper's tables 3 and 4, with popularity and Markov."""

SCORERS = {recipe.name: recipe for recipe in SCORER_RECIPES}
"""Systems that score given candidates (the paper's table 5), in the order of tables."""

GROUPS = {
    "retrieval": RETRIEVAL,
    "ablations": ("store", *(recipe.name for recipe in ABLATIONS)),
    "scorers": tuple(SCORERS),
}
"""Names that stand for several systems."""


def chosen(names: Sequence[str], groups: dict[str, tuple[str, ...]], known: Sequence[str]) -> tuple[str, ...]:
    """Names with groups (and ``all``) resolved, each once, in the order of ``known``; ConfigError for unknown ones."""
    wanted: set[str] = set()
    for name in names:
        if name != "all" and name not in groups and name not in known:
            raise ConfigError(f"no system '{name}'; there are: {', '.join(known)}; groups: all, {', '.join(groups)}")
        wanted |= set(known) if name == "all" else set(groups.get(name, (name,)))
    return tuple(name for name in known if name in wanted)
