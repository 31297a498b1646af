"""The workbench of one cell: the stages of its system, each found or made (data, seed and settings given)."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_tensors

from storerec._version import __version__
from storerec.codes import Clusterer, CodeTable
from storerec.codes.rqvae import RqVae
from storerec.comparison.config import ComparisonConfig
from storerec.comparison.stages import Stages
from storerec.config import Config, RunOptions
from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.data.splits import Split, split
from storerec.llm.backbone import Backbone
from storerec.llm.embeddings import embed_items
from storerec.llm.progress import Progress
from storerec.storage import save_arrays, save_tensors
from storerec.systems.recipe import Recipe
from storerec.tokenizer import DenseTokenizer, drop_encoded, encode_items, train_tokenizer
from storerec.tokenizer.samples import Attributes


def settings_of(config: Config) -> dict[str, Any]:
    """A configuration as part of an identity, without defaults: a new field leaves old results where they are."""
    return config.model_dump(mode="json", exclude_defaults=True)


class Bench:
    """Data, settings and seed, and the stages that systems share.

    Attributes
    ----------
    stages: where results are kept.
    options: where to compute, and the cell's seed.
    used: folders of the stages asked for so far, whose times add up to a cell's cost.
    """

    def __init__(
        self,
        stages: Stages,
        catalogue: Catalogue,
        histories: Histories,
        config: ComparisonConfig,
        options: RunOptions,
        progress: Progress,
        data: str,
    ) -> None:
        self.stages, self.catalogue, self.histories = stages, catalogue, histories
        self.config, self.options, self.progress, self.data = config, options, progress, data
        self.used: list[Path] = []

    @cached_property
    def split(self) -> Split:
        """The same split for every seed."""
        return split(self.histories, self.config.store.split, self.config.split_seed)

    def identity(self, **more: Any) -> dict[str, Any]:
        """Identity of a stage of this seed on this data; arithmetic that changes results is part of it."""
        base = {"version": __version__, "data": self.data, "seed": self.options.seed, "dtype": self.options.dtype}
        split = {"split": settings_of(self.config.store.split), "split_seed": self.config.split_seed}
        return base | split | more

    def ensure(self, kind: str, identity: dict[str, Any], make: Any) -> Path:
        """:meth:`Stages.ensure`, noted in :attr:`used`."""
        folder = self.stages.ensure(kind, identity, make)
        if folder not in self.used:
            self.used.append(folder)
        return folder

    def cost(self) -> dict[str, Any]:
        """Seconds of each stage asked for so far, shared ones counted whole."""
        facts = {folder.name: self.stages.facts(folder) for folder in self.used}
        seconds = {name.partition("-")[0]: round(fact["seconds"], 2) for name, fact in facts.items()}
        return {"seconds": seconds, "resumed": any(fact["resumed"] for fact in facts.values())}

    def fresh_backbone(self) -> Backbone:
        """The language model as it was loaded: adapters of one stage must not reach another."""
        return Backbone.load(self.config.store.backbone, self.options)

    def tokenizer_folder(self) -> Path:
        """Trained dense tokenizer and the dense tokens of all items."""
        settings = self.config.store.tokenizer
        identity = self.identity(backbone=settings_of(self.config.store.backbone), tokenizer=settings_of(settings))

        def make(folder: Path) -> None:
            backbone = self.fresh_backbone()
            model, _ = train_tokenizer(self.catalogue, backbone, settings, folder / "work", self.options, self.progress)
            save_tensors(folder / "tokenizer.safetensors", model.state_dict())
            dense = encode_items(model, self.catalogue, self.options, self.progress, folder=folder / "work")
            save_arrays(folder / "vectors.safetensors", {"vectors": dense})
            drop_encoded(folder / "work")

        return self.ensure("tokenizer", identity, make)

    def tuned_backbone(self) -> Backbone:
        """The language model with the trained tokenizer's adapter on it."""
        folder = self.tokenizer_folder()
        backbone = self.fresh_backbone()
        parts = Attributes.choose(self.catalogue.attributes, self.config.store.tokenizer)
        settings = parts.named(self.config.store.tokenizer)
        model = DenseTokenizer(backbone, settings, len(parts.tasks), seed=self.options.seed)
        model.load_state_dict(load_tensors(folder / "tokenizer.safetensors"))
        model.requires_grad_(False).eval()
        return backbone

    def vectors_folder(self, recipe: Recipe) -> Path:
        """Item vectors that codes are made from: (n, v, D) dense tokens or (n, D) embeddings."""
        if recipe.embedding == "dense_tokens":
            return self.tokenizer_folder()
        own = self.config.language_model
        settings = {
            "language_model": own,
            "larger_language_model": self.config.larger or own,
            "encoder": self.config.encoder,
        }[str(recipe.embedding)]
        identity = {"data": self.data, "embedding": settings_of(settings)}

        def make(folder: Path) -> None:
            vectors = embed_items(self.catalogue, settings, self.options, self.progress)
            save_arrays(folder / "vectors.safetensors", {"vectors": vectors})

        return self.ensure("embedding", identity, make)

    def codes_folder(self, recipe: Recipe) -> Path:
        """Code table of all items, and where code embeddings may start."""
        # unique codes cannot collide, and have no distances to reassign by
        policy = "bucket" if recipe.coder == "unique" else recipe.policy or self.config.store.codes.policy
        table = self.config.store.codes.model_copy(update={"policy": policy})
        parts: dict[str, Any] = {"coder": recipe.coder, "table": settings_of(table)}
        source = None
        if recipe.coder != "unique":
            source = self.vectors_folder(recipe)
            parts["vectors"] = source.name
            settings = self.config.store.clusterer if recipe.coder == "kmeans" else self.config.rqvae
            parts["settings"] = settings_of(settings)

        def make(folder: Path) -> dict[str, Any]:
            codes, sizes, distances, means = self._code(recipe, source, reassign=policy == "reassign")
            counts = self.split.train.item_counts(len(self.catalogue))
            made = CodeTable.build(
                codes, sizes, policy=policy, distances=distances, counts=counts, smoothing=table.smoothing
            )
            save_arrays(folder / "table.safetensors", made.arrays())
            arrays = {f"means.{i}": mean for i, mean in enumerate(means(made.codes))}
            save_arrays(folder / "means.safetensors", arrays or {"none": np.zeros(1, np.float32)})
            return {"codes": made.report().to_json()}

        return self.ensure("codes", self.identity(**parts), make)

    def _code(self, recipe: Recipe, source: Path | None, *, reassign: bool) -> tuple[Any, Any, Any, Any]:
        """Codes (n, v), their sizes, distances if wanted, and a function from settled codes to mean vectors."""
        n, seed = len(self.catalogue), self.options.seed
        if source is None:
            return np.arange(n, dtype=np.int32)[:, None], (n,), None, lambda codes: []
        vectors = load_file(source / "vectors.safetensors")["vectors"]
        if recipe.coder == "kmeans":
            dense = vectors if vectors.ndim == 3 else vectors[:, None]
            clusterer = Clusterer.fit(dense, self.config.store.clusterer, seed)
            codes = clusterer.assign(dense)
            distances = clusterer.distances(dense) if reassign else None
            positions = dense.shape[1]
            return (
                codes,
                clusterer.sizes,
                distances,
                lambda settled: clusterer.cluster_means(dense, settled[:, :positions]),
            )
        settings = self.config.rqvae.model_copy(update={"uniform_last": recipe.coder == "rqvae_uniform"})
        coder = RqVae.fit(vectors, settings, seed, progress=self.progress)
        codes = coder.assign_all(vectors) if settings.uniform_last else coder.assign(vectors)
        return codes, coder.sizes, coder.distances(vectors) if reassign else None, lambda settled: []

    def table(self, recipe: Recipe) -> CodeTable:
        """The code table of a system."""
        return CodeTable.from_arrays(load_file(self.codes_folder(recipe) / "table.safetensors"))

    def means(self, recipe: Recipe) -> list[np.ndarray] | None:
        """Mean dense token per code and position, where codes are clusters of dense tokens."""
        arrays = load_file(self.codes_folder(recipe) / "means.safetensors")
        found = [arrays[f"means.{i}"] for i in range(len(arrays)) if f"means.{i}" in arrays]
        return found or None
