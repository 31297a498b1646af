"""Settings of a comparison: the same for every system, but for what a system is by its recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from storerec.codes.rqvae_config import RqVaeConfig
from storerec.comparison.scoring_config import ScoringConfig
from storerec.comparison.trial import Trial
from storerec.config import Config, merged
from storerec.errors import ConfigError
from storerec.llm.embeddings import EmbeddingConfig
from storerec.pipeline.config import StoreConfig
from storerec.recommender.config import RecommenderConfig
from storerec.recommender.transformer import TransformerConfig
from storerec.systems.recipe import Recipe
from storerec.systems.registry import RECIPES
from storerec.systems.sasrec_model import SasRecConfig


def _with_own() -> list[str]:
    return [name for name, recipe in RECIPES.items() if recipe.model == "llm"]


class TuningConfig(Config):
    """The budget of tuning, the same for every trained system."""

    rates: tuple[Annotated[float, Field(gt=0)], ...] = Field((1.0,), min_length=1)
    """Factors on the configured learning rates. Each trained system of the tables is trained with each of them on the
    first seed, and the best on validation serves for all seeds; ablations take STORE's. One factor means no tuning."""

    dropouts: tuple[Annotated[float, Field(ge=0)], ...] = Field((1.0,), min_length=1)
    """Factors on the configured dropouts, each tried with each of ``rates``. Small data ask for more of it than large
    ones, and no two systems for the same."""

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All that are made of a system."""
        return tuple(Trial(rate=rate, dropout=dropout) for rate in self.rates for dropout in self.dropouts)

    @property
    def about(self) -> str:
        """The budget in words."""
        rates, dropouts = (", ".join(f"{factor:g}" for factor in factors) for factors in (self.rates, self.dropouts))
        return f"{len(self.trials)} settings (learning rate x {rates}; dropout x {dropouts})"


class ComparisonConfig(Config):
    """Everything that decides what a comparison computes, beside systems and seeds."""

    store: StoreConfig = StoreConfig()
    """Language model, split, dense tokenizer, clusterer, collision policy, recommender, search, evaluation. Systems
    with a language model all use its recommender's settings, but for those in ``own``."""

    own: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Fields of the recommender's settings for single systems, by name, over those that all share: what a system was
    found to do best with, where that is not what serves the others. What makes a system what it is stays, and ablations
    take STORE's."""

    rqvae: RqVaeConfig = RqVaeConfig()
    """Codes of TIGER, LC-Rec and STORE without its tokenizer."""

    encoder: EmbeddingConfig = EmbeddingConfig(source="encoder", name="all-minilm-l6-v2")
    """TIGER's item embedding (paper: a sentence encoder)."""

    larger: EmbeddingConfig | None = None
    """LC-Rec's item embedding (paper: a larger language model); none takes the comparison's own language model."""

    sasrec: SasRecConfig = SasRecConfig()
    """SASRec."""

    transformer: TransformerConfig = TransformerConfig()
    """TIGER's small Transformer."""

    tuning: TuningConfig = TuningConfig()
    """Trials per system."""

    scoring: ScoringConfig = ScoringConfig()
    """Scoring of judged candidates. Nothing of it decides on rankings."""

    split_seed: int = 0
    """Seed of the split. It does not change with the seeds of training, so that users can be paired."""

    @property
    def language_model(self) -> EmbeddingConfig:
        """The mean-pooled embedding of the comparison's own language model."""
        backbone = self.store.backbone
        return EmbeddingConfig(source="language_model", name=backbone.name, revision=backbone.revision)

    @model_validator(mode="after")
    def _own_settings_fit(self) -> ComparisonConfig:
        for name in self.own:
            if name not in RECIPES or RECIPES[name].model != "llm":
                raise ValueError(f"own.{name}: no system with a language model; there are: {', '.join(_with_own())}")
            try:
                self._shared(name)
            except ConfigError as error:  # as a ValueError it is told with the file's name
                raise ValueError(str(error)) from None
        return self

    def recommender(self, recipe: Recipe) -> RecommenderConfig:
        """The recommender's settings of a system: those of all, its own here, and what it is by its recipe."""
        name = "store" if recipe.group == "ablation" and recipe.name not in self.own else recipe.name
        return recipe.recommender_config(self._shared(name))

    def _shared(self, name: str) -> RecommenderConfig:
        values = merged(self.store.recommender.model_dump(), self.own.get(name, {}))
        return RecommenderConfig.parse(values, source=f"own.{name}")

    @classmethod
    def preset(cls, name: str) -> ComparisonConfig:
        """Settings for a dataset by name; raises :class:`ConfigError` for one without."""
        if name not in _PRESETS:
            raise ConfigError(f"no comparison preset '{name}'; there are: {', '.join(PRESETS)}")
        return cls.parse(_PRESETS[name], source=f"comparison preset {name}")

    @classmethod
    def assembled(
        cls,
        preset: str,
        file: Path | None = None,
        *,
        rates: tuple[float, ...] | None = None,
        dropouts: tuple[float, ...] | None = None,
        exclude_history: bool | None = None,
    ) -> ComparisonConfig:
        """A preset, a JSON file's fields over it, and single choices over both.

        Raises
        ------
        ConfigError: no such preset, or a field that is unknown or has a bad value (the message names it).
        """
        values = cls.preset(preset).model_dump()
        if file is not None:
            values = merged(values, cls.read(file).model_dump(exclude_unset=True))
        if rates is not None:
            values["tuning"]["rates"] = rates
        if dropouts is not None:
            values["tuning"]["dropouts"] = dropouts
        if exclude_history is not None:
            values["store"]["evaluation"]["exclude_history"] = exclude_history
        return cls.parse(values, source=str(file or f"comparison preset {preset}"))


def _store(name: str, **changes: Any) -> dict[str, Any]:
    return StoreConfig.preset(name).model_dump() | changes


_SMALL = {"learning_rate": 1e-3, "schedule": "constant_with_warmup", "warmup": 0.0, "average": 0.999}

# What helps STORE hurts P5 (MovieLens-100K, seed 1, validation NDCG@10): .1131 as it stands here, .1084 with dropout in
# the layers, .1107 with LoRA.
_P5 = {
    "tuning": "full",
    "dropout": 0.3,
    "residual_dropout": 0.0,
    "joint": {"learning_rate": 1e-3},
    "alone": {"learning_rate": 1e-3, "epochs": 8, "patience": 2},
}

# Four tokens an item make an epoch over twice as long as STORE's, on two cores two minutes: few, and at a high rate.
_OF_CODES = {
    "dropout": 0.4,
    "residual_dropout": 0.3,
    "validation_users": 300,
    "joint": {"learning_rate": 2e-3},
    "alone": {"learning_rate": 2e-3, "epochs": 4, "patience": 2},
}

_SCORING: dict[str, Any] = {
    # Two cores: a scorer over text takes minutes for what one over codes takes seconds for, so its steps are few, and
    # all scorers are held to the same drawn groups.
    "judgements": {"groups_per_user": 3},
    "split": {"protocol": "users", "test_users": 200, "validation_share": 0.1, "max_items": 1000},
    "test_groups": 300,
    "validation_groups": 40,
    "scorer": {"training": {"learning_rate": 5e-4, "epochs": 4, "patience": 2}},
    "llm": {
        "batch_groups": 4,
        "train_candidates": 8,
        "training": {"learning_rate": 5e-4, "epochs": 1, "max_steps": 40, "checkpoint_steps": 20},
    },
    "encoder": {
        "max_history_tokens": 128,
        "max_candidate_tokens": 48,
        "batch_groups": 4,
        "train_candidates": 4,
        "training": {"learning_rate": 5e-5, "epochs": 1, "max_steps": 60, "checkpoint_steps": 20, "warmup": 0.1},
    },
}

_PRESETS: dict[str, dict[str, Any]] = {
    # A film is rated once: its rater's list without it is the question. Two cores serve.
    "movielens-100k": {
        "store": _store("cpu", evaluation={"exclude_history": True}, search={"beam": 100, "item_weight": 0.75}),
        # dropouts are twice what was best for STORE without trials: those of the committed table halve them
        "own": {
            "p5": _P5,
            "tiger-llm": _OF_CODES,
            "lc-rec": _OF_CODES,
            "store": {"dropout": 0.4, "residual_dropout": 0.3},
        },
        "transformer": {
            "layers": 2,
            "heads": 4,
            "head_width": 32,
            "feed_forward": 512,
            "dropout": 0.2,
            "attention_dropout": 0.0,
            "batch_size": 16,
            "training": _SMALL | {"epochs": 16, "patience": 4},
        },
        "sasrec": {"training": _SMALL | {"epochs": 80, "patience": 6, "average": 0.98}},
        "scoring": _SCORING,
    },
    "mind": {"store": _store("paper-mind")},
    "yelp": {"store": _store("paper-yelp")},
    "amazon": {"store": _store("cpu", evaluation={"exclude_history": True}), "own": {"p5": _P5}},
    "cpu": {"store": _store("cpu"), "own": {"p5": _P5}},
}

PRESETS = tuple(_PRESETS)
