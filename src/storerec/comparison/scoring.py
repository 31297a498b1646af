"""The scoring part of a comparison: which scorers, on what, and what came of them (paper, Table 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safetensors.numpy import load_file

from storerec.codes import CodeTable
from storerec.comparison.config import ComparisonConfig
from storerec.comparison.datasets import ComparisonData
from storerec.comparison.grid import Outcome, failed_cells
from storerec.comparison.judged import Judged, check_judgements, divide, find_judgements, has_judgements
from storerec.comparison.paper import PAPER_SCORES
from storerec.comparison.score_cell import scoring_config
from storerec.comparison.scorers import answers_file
from storerec.comparison.trial import Trial
from storerec.comparison.work import ScoreTask, Work
from storerec.data.judgements import JudgementSplit
from storerec.data.splits import check_trainable, split
from storerec.errors import ConfigError, StorerecError
from storerec.evaluation.leaks import check_split, check_tree
from storerec.evaluation.score_comparison import ScoreComparison
from storerec.evaluation.scored import ScoreCell, compare_scores
from storerec.systems.endpoint_scorer import EndpointScorer
from storerec.systems.registry import GROUPS, RECIPES, SCORERS, chosen
from storerec.systems.scorer_recipe import ScorerRecipe

Say = Callable[[str], None]


def resolve_scorers(
    names: Sequence[str], data: ComparisonData, config: ComparisonConfig
) -> tuple[tuple[ScorerRecipe, ...], tuple[str, ...]]:
    """Scorers by names of systems and groups, and what a report must say of those left out.

    Raises
    ------
    ConfigError: an unknown name, or ``score-openai`` by name without an endpoint in the settings.
    DataError: scorers were asked for (``all`` takes them where it can), and the data has no judgements.
    """
    found = [SCORERS[name] for name in chosen(names, GROUPS, (*RECIPES, *SCORERS)) if name in SCORERS]
    if found and not has_judgements(data):
        if any(name != "all" and (name in SCORERS or name == "scorers") for name in names):
            find_judgements(data, config.scoring)  # says what is missing
        return (), ("scorers were left out: the data does not say what users thought of items",)
    if config.scoring.endpoint is not None or not any(recipe.kind == "endpoint" for recipe in found):
        return tuple(found), ()
    remote = [recipe.name for recipe in found if recipe.kind == "endpoint"]
    if set(remote) & set(names):
        raise ConfigError(f"{remote[0]} needs an endpoint: give its settings as scoring.endpoint in --config FILE")
    kept = tuple(recipe for recipe in found if recipe.kind != "endpoint")
    return kept, (f"{remote[0]} was left out: no endpoint is configured",)


@dataclass(frozen=True, eq=False)
class Judging:
    """Judgements of a comparison, divided and checked.

    Attributes
    ----------
    parts: by users.
    notes: for the report.
    own_split: whether the recommenders below the scorers are those of the rankings.
    """

    parts: JudgementSplit
    notes: tuple[str, ...]
    own_split: bool

    @classmethod
    def prepare(cls, data: ComparisonData, config: ComparisonConfig) -> Judging:
        """Read, divide and check.

        Raises
        ------
        DataError: judgements or users are missing or bad, or a leak was found.
        """
        settings = scoring_config(config, data.histories)
        base = split(data.histories, settings.store.split, config.split_seed)
        check_trainable(base)
        check_split(data.histories, base)
        judgements, said = find_judgements(data, config.scoring)
        parts = divide(judgements, base, config.scoring, config.split_seed)
        again = check_judgements(parts, base, shown_again=data.kind == "mind")
        own = settings.store.split == config.store.split
        if not own:
            again = (*again, "the split by users is scoring's own: the recommenders below it are trained anew")
        return cls(parts, (*said, *parts.notes, *again, *base.notes), own)


def score_tasks(
    scorers: Sequence[ScorerRecipe],
    seeds: Sequence[int],
    chosen: Mapping[str, Trial],
    default: Trial,
    judged: Judged,
) -> list[ScoreTask]:
    """Scores of every scorer and seed; scorers that draw nothing have one.

    ``chosen`` are the recommenders' best trials; others take ``default``.
    """
    return [
        ScoreTask(
            scorer=recipe,
            seed=seed,
            trial=chosen.get(recipe.base.name, default) if recipe.base else Trial(),
            judgements=judged.digest,
        )
        for seed in seeds
        for recipe in scorers
        if recipe.seeded or seed == seeds[0]
    ]


def tell_cost(work: Work, scorers: Sequence[ScorerRecipe], parts: JudgementSplit, say: Say) -> None:
    """Say what an endpoint will be asked and what that costs, before anything is asked."""
    endpoint = work.config.scoring.endpoint
    for recipe in scorers:
        if recipe.kind != "endpoint" or endpoint is None:
            continue
        try:
            scorer = EndpointScorer(work.catalogue, endpoint, answers_file(work.folder / "stages"))
            say(f"{recipe.name}: {scorer.estimate(parts.test.candidates)}")
        except StorerecError as error:  # its cell will fail and say why; the others go on
            say(f"{recipe.name}: no estimate: {error}")


def measure_scores(
    work: Work,
    data: ComparisonData,
    judging: Judging,
    scorers: Sequence[ScorerRecipe],
    outcomes: Mapping[str, Outcome],
    settings: Mapping[str, Any],
    notes: Sequence[str],
) -> ScoreComparison | None:
    """Compare the scores that were made; None where every cell failed."""
    order = [recipe.name for recipe in scorers]
    done = sorted((o for o in outcomes.values() if o.facts), key=lambda o: order.index(o.task.system))
    if not done:
        return None
    labels = judging.parts.test
    return compare_scores(
        [_cell(work, outcome, len(data.catalogue)) for outcome in done],
        labels.labels,
        labels.candidates.offsets,
        config=work.config.store.evaluation,
        seed=work.config.split_seed,
        reference="score-store" if "score-store" in order else done[-1].task.system,
        failures=failed_cells(outcomes.values()),
        settings=settings,
        title=f"Scoring of judged candidates on {data.name}",
        notes=(*judging.notes, *notes),
        paper=PAPER_SCORES.get(data.kind or ""),
    )


def _cell(work: Work, outcome: Outcome, n_items: int) -> ScoreCell:
    facts, stages = outcome.facts or {}, work.folder / "stages"
    if facts["codes"]:
        check_tree(CodeTable.from_arrays(load_file(stages / facts["codes"] / "table.safetensors")), n_items)
    scores = load_file(stages / facts["scores"] / "scores.safetensors")["scores"]
    return ScoreCell(
        outcome.task.system, outcome.task.seed, scores, float(facts["score_seconds"]), tuple(facts["notes"])
    )


def scoring_settings(
    judging: Judging, scorers: Sequence[ScorerRecipe], outcomes: Mapping[str, Outcome]
) -> dict[str, Any]:
    """What a reader must know of the scorers beside what is said of rankings."""
    parts = {
        name: {"groups": len(part), "candidates": len(part.labels), "positives": int(part.labels.sum())}
        for name, part in (
            ("train", judging.parts.train),
            ("validation", judging.parts.validation),
            ("test", judging.parts.test),
        )
    }
    facts = {o.task.name: o.facts for o in outcomes.values() if o.facts}
    return {
        "systems": {recipe.name: f"{recipe.about} [{recipe.paper}]" for recipe in scorers},
        "judgements": parts,
        "tuning": "one learning rate for each tuned scorer; early stopping and the choice of weights by mean AUC of "
        "the validation groups",
        "validation": {name: fact["validation"] for name, fact in facts.items() if fact["validation"]},
        "train seconds": {
            name: sum(s for stage, s in fact["cost"]["seconds"].items() if stage != "scores")
            for name, fact in facts.items()
        },
        "leak checks": "passed: test users in no training of scorers or of recommenders below them, candidates not in "
        "their groups' histories, scores made from candidates without labels",
    }
