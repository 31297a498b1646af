"""Training and taking up the sequence model of each kind of system."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from safetensors.torch import load_file

from storerec.codes import CodeTree
from storerec.comparison.bench import Bench, settings_of
from storerec.comparison.trial import Trial
from storerec.llm.precision import pick_device, pick_dtype
from storerec.recommender import Recommender, RecommenderConfig, SearchConfig, train_recommender
from storerec.recommender.transformer import TransformerConfig, TransformerRecommender
from storerec.recommender.transformer_decoder import TransformerDecoder
from storerec.recommender.transformer_training import train_transformer
from storerec.storage import save_tensors
from storerec.systems.base import System
from storerec.systems.generative import GenerativeSystem
from storerec.systems.markov import Markov
from storerec.systems.popularity import Popularity
from storerec.systems.recipe import Recipe
from storerec.systems.sasrec import SasRec, train_sasrec
from storerec.systems.sasrec_model import SasRecConfig, SasRecModel
from storerec.systems.store import StoreSystem

WEIGHTS = "model.safetensors"


class Kind(Protocol):
    """What the grid needs of a kind of sequence model."""

    def identity(self, bench: Bench, recipe: Recipe, trial: Trial) -> dict[str, Any]:
        """All that decides the trained weights, beside data and seed."""
        ...

    def train(self, bench: Bench, recipe: Recipe, trial: Trial, folder: Path) -> Mapping[str, Any]:
        """Train, write :data:`WEIGHTS` and return the logs by phase."""
        ...

    def system(self, bench: Bench, recipe: Recipe, trial: Trial, folder: Path) -> System:
        """The trained system."""
        ...


class LanguageModel:
    """The language model over codes, or over unique ids."""

    def config(self, bench: Bench, recipe: Recipe, trial: Trial) -> RecommenderConfig:
        """The comparison's settings, this system's fields, this trial's factors."""
        own = bench.config.recommender(recipe)
        changes: dict[str, Any] = {"joint": trial.training(own.joint), "alone": trial.training(own.alone)}
        changes |= trial.dropped(own, "dropout", "residual_dropout")
        if not own.alignment:  # the first phase falls away: as many passes over the histories without it
            changes["alone"] = changes["alone"].model_copy(update={"epochs": own.joint.epochs + own.alone.epochs})
        excludes = bench.config.store.evaluation.exclude_history
        return own.model_copy(update=changes | {"validation_excludes_history": excludes})

    def _search(self, bench: Bench, recipe: Recipe) -> SearchConfig:
        # the search that decides on the best weights is the same for all: "soft" is a matter of the final lists only
        search = bench.config.store.search.in_validation.model_copy(update={"constraint": "tree"})
        if bench.config.recommender(recipe).item_rows:
            return search
        return search.model_copy(update={"item_weight": SearchConfig().item_weight})  # without such rows it is nothing

    def identity(self, bench: Bench, recipe: Recipe, trial: Trial) -> dict[str, Any]:
        """Codes, settings, where weights start, and the search of validation."""
        config = self.config(bench, recipe, trial)
        if config.tuning == "full":  # no adapter is trained: what it would be decides nothing
            config = config.model_copy(update={"lora": RecommenderConfig().lora})
        return {
            "codes": bench.codes_folder(recipe).name,
            "start": bench.tokenizer_folder().name if recipe.start == "tokenizer" else "fresh",
            "backbone": settings_of(bench.config.store.backbone),
            "recommender": settings_of(config),
            "search": settings_of(self._search(bench, recipe)),
        }

    def train(self, bench: Bench, recipe: Recipe, trial: Trial, folder: Path) -> Mapping[str, Any]:
        """Train the recommender."""
        model, logs = train_recommender(
            bench.catalogue,
            bench.split,
            bench.table(recipe),
            bench.means(recipe),
            self._backbone(bench, recipe),
            self.config(bench, recipe, trial),
            folder / "work",
            bench.options,
            bench.progress,
            search=self._search(bench, recipe),
        )
        save_tensors(folder / WEIGHTS, model.state_dict())
        return logs

    def recommender(self, bench: Bench, recipe: Recipe, trial: Trial, folder: Path) -> Recommender:
        """The network with the trained weights."""
        model = Recommender(
            self._backbone(bench, recipe),
            self.config(bench, recipe, trial),
            CodeTree.from_table(bench.table(recipe)),
            None,
            seed=bench.options.seed,
        )
        model.load_state_dict(load_file(folder / WEIGHTS))
        return model.requires_grad_(False).eval()

    def system(self, bench: Bench, recipe: Recipe, trial: Trial, folder: Path) -> System:
        """Take up the weights."""
        model, search = self.recommender(bench, recipe, trial, folder), recipe.search_config(bench.config.store.search)
        return StoreSystem(model, bench.table(recipe), search, bench.options, progress=bench.progress, name=recipe.name)

    def _backbone(self, bench: Bench, recipe: Recipe) -> Any:
        return bench.tuned_backbone() if recipe.start == "tokenizer" else bench.fresh_backbone()


class Transformer:
    """TIGER's encoder-decoder."""

    def config(self, bench: Bench, trial: Trial) -> TransformerConfig:
        """The comparison's settings, this trial's factors."""
        own = bench.config.transformer
        changes: dict[str, Any] = {"training": trial.training(own.training)}
        changes |= trial.dropped(own, "dropout", "attention_dropout")
        excludes = bench.config.store.evaluation.exclude_history
        return own.model_copy(update=changes | {"validation_excludes_history": excludes})

    def identity(self, bench: Bench, recipe: Recipe, trial: Trial) -> dict[str, Any]:
        """Codes and settings."""
        return {
            "codes": bench.codes_folder(recipe).name,
            "transformer": settings_of(self.config(bench, trial)),
            "search": settings_of(self._search(bench)),
        }

    def _search(self, bench: Bench) -> SearchConfig:
        # it has no rows of items, so that their weight changes nothing
        return bench.config.store.search.in_validation.model_copy(update={"item_weight": SearchConfig().item_weight})

    def train(self, bench: Bench, recipe: Recipe, trial: Trial, folder: Path) -> Mapping[str, Any]:
        """Train it."""
        search, table = self._search(bench), bench.table(recipe)
        model, log = train_transformer(
            bench.split, table, self.config(bench, trial), folder / "work", bench.options, bench.progress, search=search
        )
        save_tensors(folder / WEIGHTS, model.state_dict())
        return log if isinstance(log, Mapping) else {"alone": log}

    def system(self, bench: Bench, recipe: Recipe, trial: Trial, folder: Path) -> System:
        """Take up the weights."""
        table, config, device = bench.table(recipe), self.config(bench, trial), pick_device(bench.options)
        model = TransformerRecommender(CodeTree.from_table(table), config, device=device, seed=bench.options.seed)
        model.load_state_dict(load_file(folder / WEIGHTS))
        model.requires_grad_(False).eval()
        decoder = TransformerDecoder(model, dtype=pick_dtype(bench.options.inference_dtype, device))
        search = recipe.search_config(bench.config.store.search)
        return GenerativeSystem(recipe.name, decoder, table, search, config.normaliser, progress=bench.progress)


class SelfAttention:
    """SASRec."""

    def config(self, bench: Bench, trial: Trial) -> SasRecConfig:
        """The comparison's settings, this trial's factors."""
        own = bench.config.sasrec
        changes: dict[str, Any] = {"training": trial.training(own.training)} | trial.dropped(own, "dropout")
        excludes = bench.config.store.evaluation.exclude_history
        return own.model_copy(update=changes | {"validation_excludes_history": excludes})

    def identity(self, bench: Bench, recipe: Recipe, trial: Trial) -> dict[str, Any]:
        """Its settings."""
        return {"sasrec": settings_of(self.config(bench, trial))}

    def train(self, bench: Bench, recipe: Recipe, trial: Trial, folder: Path) -> Mapping[str, Any]:
        """Train it."""
        n_items = len(bench.catalogue)
        model, log = train_sasrec(
            bench.split, n_items, self.config(bench, trial), folder / "work", bench.options, bench.progress
        )
        save_tensors(folder / WEIGHTS, model.state_dict())
        return {"alone": log}

    def system(self, bench: Bench, recipe: Recipe, trial: Trial, folder: Path) -> System:
        """Take up the weights."""
        model = SasRecModel(self.config(bench, trial), len(bench.catalogue), seed=bench.options.seed)
        model.load_state_dict(load_file(folder / WEIGHTS))
        return SasRec(model.to(pick_device(bench.options)).requires_grad_(False))


LANGUAGE_MODEL = LanguageModel()

KINDS: dict[str, Kind] = {"llm": LANGUAGE_MODEL, "transformer": Transformer(), "sasrec": SelfAttention()}


def train_stage(bench: Bench, recipe: Recipe, trial: Trial) -> Path:
    """The folder of a system's trained weights, with its best validation in the stage's facts."""
    kind = KINDS[recipe.model]
    identity = bench.identity(**kind.identity(bench, recipe, trial))

    def make(folder: Path) -> dict[str, Any]:
        logs = kind.train(bench, recipe, trial, folder)
        drop_checkpoints(folder)
        excludes = bench.config.store.evaluation.exclude_history
        found = best_validation(logs, excludes=excludes)
        return {"trial": trial.model_dump(), "validation": found, "logs": json.loads(json.dumps(logs))}

    return bench.ensure("model", identity, make)


def drop_checkpoints(folder: Path) -> None:
    """Remove what a training left behind to go on from; its result stands elsewhere."""
    for checkpoint in (folder / "work").rglob("checkpoint-*"):
        shutil.rmtree(checkpoint, ignore_errors=True)
    for finished in (folder / "work").rglob("finished.safetensors"):
        finished.unlink()


def best_validation(logs: Mapping[str, Any], *, excludes: bool = False) -> dict[str, float] | None:
    """The validation of the kept weights: the last phase's best by NDCG@10; None where nothing was validated.

    Models that log figures with and without the users' own histories give those that ``excludes`` asks for.
    """
    entries = [entry for entry in list(logs.values())[-1] if "eval_ndcg@10" in entry] if logs else []
    if not entries:
        return None
    ending = "_excluding" if excludes and "eval_ndcg@10_excluding" in entries[0] else ""
    best = max(entries, key=lambda entry: entry[f"eval_ndcg@10{ending}"])
    return {name: best[f"eval_{name}{ending}"] for name in ("recall@10", "ndcg@10")}


def take_up(bench: Bench, recipe: Recipe, trial: Trial) -> System:
    """A system ready to recommend, trained now or before."""
    n_items = len(bench.catalogue)
    if recipe.model == "popularity":
        return Popularity.fit(bench.split.train, n_items)
    if recipe.model == "markov":
        return Markov.fit(bench.split.train, n_items)
    return KINDS[recipe.model].system(bench, recipe, trial, train_stage(bench, recipe, trial))
