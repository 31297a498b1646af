"""Training and taking up each kind of scorer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from safetensors.torch import load_file

from storerec.comparison.bench import Bench, settings_of
from storerec.comparison.judged import Judged
from storerec.comparison.models import LANGUAGE_MODEL, WEIGHTS, drop_checkpoints, train_stage
from storerec.comparison.trial import Trial
from storerec.config import Config
from storerec.errors import ConfigError
from storerec.llm.embeddings import load_encoder
from storerec.recommender import Recommender
from storerec.recommender.scoring import CodeScorer
from storerec.recommender.scoring_training import train_code_scorer
from storerec.storage import save_tensors
from storerec.systems.answering import AnswerModel
from storerec.systems.code_scorer import CodeScorerSystem
from storerec.systems.cross_encoder import CrossEncoder
from storerec.systems.encoder_scorer import EncoderScorer, train_encoder_scorer
from storerec.systems.endpoint_scorer import EndpointScorer
from storerec.systems.llm_scorer import LlmScorer, train_llm_scorer
from storerec.systems.scorer import Scorer
from storerec.systems.scorer_baselines import LastItemScorer, PopularityScorer
from storerec.systems.scorer_recipe import ScorerRecipe

Log = list[dict[str, float]]


class ScorerKind(Protocol):
    """What the grid needs of a kind of scorer."""

    def identity(self, bench: Bench, recipe: ScorerRecipe, trial: Trial) -> dict[str, Any]:
        """All that decides the scores, beside data, judgements and seed."""
        ...

    def train(self, bench: Bench, recipe: ScorerRecipe, trial: Trial, judged: Judged, folder: Path) -> Log:
        """Train a tuned one, write :data:`WEIGHTS` and return the log."""
        ...

    def scorer(self, bench: Bench, recipe: ScorerRecipe, trial: Trial, folder: Path | None) -> Scorer:
        """A scorer ready to use; ``folder`` has its weights where it is tuned."""
        ...


class Untrained:
    """A kind that learns nothing from judgements."""

    def train(self, bench: Bench, recipe: ScorerRecipe, trial: Trial, judged: Judged, folder: Path) -> Log:
        """Refuse: there is nothing to train."""
        raise ConfigError(f"scorer {recipe.name}: kind '{recipe.kind}' cannot be tuned")


class Counts(Untrained):
    """Popularity, and popularity after the last item."""

    def identity(self, bench: Bench, recipe: ScorerRecipe, trial: Trial) -> dict[str, Any]:
        """Nothing but the data decides."""
        return {}

    def scorer(self, bench: Bench, recipe: ScorerRecipe, trial: Trial, folder: Path | None) -> Scorer:
        """Count training events."""
        kind = PopularityScorer if recipe.kind == "popularity" else LastItemScorer
        return kind.fit(bench.split.train, len(bench.catalogue))


class Codes:
    """Yes or no over a recommender's codes."""

    def identity(self, bench: Bench, recipe: ScorerRecipe, trial: Trial) -> dict[str, Any]:
        """The recommender below, and the scorer's settings."""
        assert recipe.base is not None
        model = train_stage(bench, recipe.base, trial)
        return {"model": model.name, "scorer": settings_of(bench.config.scoring.scorer)}

    def train(self, bench: Bench, recipe: ScorerRecipe, trial: Trial, judged: Judged, folder: Path) -> Log:
        """Train the scorer on top of the recommender."""
        model, logs = train_code_scorer(
            self._recommender(bench, recipe, trial),
            judged.learning,
            bench.config.scoring.scorer,
            folder / "work",
            bench.options,
            bench.progress,
        )
        save_tensors(folder / WEIGHTS, model.state_dict())
        return logs["scorer"]

    def scorer(self, bench: Bench, recipe: ScorerRecipe, trial: Trial, folder: Path | None) -> Scorer:
        """Take up the weights."""
        assert folder is not None
        recommender = self._recommender(bench, recipe, trial)
        model = CodeScorer(recommender, bench.config.scoring.scorer, seed=bench.options.seed)
        model.load_state_dict(load_file(folder / WEIGHTS))
        return CodeScorerSystem(model.requires_grad_(False).eval(), bench.options, name=recipe.name)

    def _recommender(self, bench: Bench, recipe: ScorerRecipe, trial: Trial) -> Recommender:
        assert recipe.base is not None
        return LANGUAGE_MODEL.recommender(bench, recipe.base, trial, train_stage(bench, recipe.base, trial))


def _read_by(config: Config, recipe: ScorerRecipe) -> dict[str, Any]:
    """Settings of a scorer over text; how it would be trained decides nothing where it is not."""
    training = {"lora", "training", "batch_groups", "train_candidates"}
    return {name: value for name, value in settings_of(config).items() if recipe.tuned or name not in training}


class Titles:
    """The language model over titles."""

    def identity(self, bench: Bench, recipe: ScorerRecipe, trial: Trial) -> dict[str, Any]:
        """The language model and what it is asked."""
        asked = _read_by(bench.config.scoring.llm, recipe)
        return {"backbone": settings_of(bench.config.store.backbone), "llm": asked}

    def train(self, bench: Bench, recipe: ScorerRecipe, trial: Trial, judged: Judged, folder: Path) -> Log:
        """Fine-tune an adapter."""
        scorer, log = train_llm_scorer(
            bench.catalogue,
            judged.learning,
            bench.fresh_backbone(),
            bench.config.scoring.llm,
            folder / "work",
            bench.options,
            bench.progress,
        )
        save_tensors(folder / WEIGHTS, scorer.model.state_dict())
        return log

    def scorer(self, bench: Bench, recipe: ScorerRecipe, trial: Trial, folder: Path | None) -> Scorer:
        """The model as it is, or with its adapter."""
        config, backbone = bench.config.scoring.llm, bench.fresh_backbone()
        if folder is None:
            return LlmScorer.zero_shot(backbone, bench.catalogue, config, bench.options, progress=bench.progress)
        model = AnswerModel(backbone, config.lora, seed=bench.options.seed)
        model.load_state_dict(load_file(folder / WEIGHTS))
        return LlmScorer(model, bench.catalogue, config, bench.options, progress=bench.progress)


class Encoder:
    """A BERT-style encoder over text."""

    def identity(self, bench: Bench, recipe: ScorerRecipe, trial: Trial) -> dict[str, Any]:
        """The encoder and what it reads."""
        config = bench.config.scoring.encoder
        return {"name": config.name, "encoder": _read_by(config, recipe)}

    def train(self, bench: Bench, recipe: ScorerRecipe, trial: Trial, judged: Judged, folder: Path) -> Log:
        """Fine-tune a cross-encoder."""
        config = bench.config.scoring.encoder
        scorer, log = train_encoder_scorer(
            bench.catalogue, judged.learning, config, folder / "work", bench.options, bench.progress
        )
        save_tensors(folder / WEIGHTS, scorer.model.state_dict())
        return log

    def scorer(self, bench: Bench, recipe: ScorerRecipe, trial: Trial, folder: Path | None) -> Scorer:
        """The encoder as it is, or with its trained weights."""
        config, catalogue = bench.config.scoring.encoder, bench.catalogue
        if folder is None:
            return EncoderScorer.zero_shot(catalogue, config, bench.options, progress=bench.progress)
        parts = load_encoder(config.name, revision=config.revision, options=bench.options)
        model = CrossEncoder(*parts, seed=bench.options.seed)
        model.load_state_dict(load_file(folder / WEIGHTS))
        return EncoderScorer(model, catalogue, config, bench.options, tuned=True, progress=bench.progress)


class Remote(Untrained):
    """An OpenAI-compatible endpoint."""

    def identity(self, bench: Bench, recipe: ScorerRecipe, trial: Trial) -> dict[str, Any]:
        """The model and what it is asked; how hard it may be asked changes no answer."""
        config = bench.config.scoring.endpoint
        if config is None:
            raise ConfigError("scoring.endpoint is not set, so there is nothing to ask; give it in --config FILE")
        asked = {"base_url", "model", "prompt", "system", "use_logprobs", "top_logprobs", "max_output_tokens"}
        return {"endpoint": config.model_dump(mode="json", include=asked | {"temperature"})}

    def scorer(self, bench: Bench, recipe: ScorerRecipe, trial: Trial, folder: Path | None) -> Scorer:
        """The endpoint, with the comparison's cache of answers."""
        config = bench.config.scoring.endpoint
        assert config is not None
        return EndpointScorer(bench.catalogue, config, answers_file(bench.stages.root), progress=bench.progress)


def answers_file(stages: Path) -> Path:
    """Where an endpoint's answers are kept, beside the stages."""
    return stages.parent / "answers.sqlite"


SCORER_KINDS: dict[str, ScorerKind] = {
    "codes": Codes(),
    "llm": Titles(),
    "encoder": Encoder(),
    "endpoint": Remote(),
    "popularity": Counts(),
    "markov": Counts(),
}


def scorer_stage(bench: Bench, recipe: ScorerRecipe, trial: Trial, judged: Judged) -> Path | None:
    """The folder of a tuned scorer's weights, with its best validation in the stage's facts; None for others."""
    if not recipe.tuned:
        return None
    kind = SCORER_KINDS[recipe.kind]
    identity = bench.identity(kind=recipe.kind, judgements=judged.digest, **kind.identity(bench, recipe, trial))

    def make(folder: Path) -> dict[str, Any]:
        log = kind.train(bench, recipe, trial, judged, folder)
        drop_checkpoints(folder)
        return {"validation": _best(log), "log": log}

    return bench.ensure("scorer", identity, make)


def _best(log: Log) -> Mapping[str, float] | None:
    """The validation of the kept weights; None where nothing was validated."""
    values = [entry["eval_auc"] for entry in log if "eval_auc" in entry]
    return {"auc": max(values)} if values else None
