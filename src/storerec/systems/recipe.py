"""What a system of the comparison is made of: item embedding, code builder, sequence model, tasks, constraint."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from storerec.codes import Policy
from storerec.config import Config
from storerec.recommender import RecommenderConfig, SearchConfig

Embedding = Literal["dense_tokens", "language_model", "larger_language_model", "encoder"]
Coder = Literal["kmeans", "rqvae", "rqvae_uniform", "unique"]
Model = Literal["llm", "transformer", "sasrec", "markov", "popularity"]


AS_CODES: dict[str, Any] = {"history": "codes", "item_rows": False, "item_rank": None, "code_rank": None}
"""Recommender's fields of systems as their papers have them: histories of codes, and nothing beside codes. STORE takes
what the comparison's configuration says (``docs/method.md``, section 3)."""


class Recipe(Config):
    """One row of the retrieval tables, as a choice of parts that all systems share.

    What a recipe leaves open (language model, layers, dropout, beam, epochs) is the comparison's configuration, the
    same for every row.
    """

    name: str
    """Name on the command line and in tables."""

    paper: str
    """Where the system comes from."""

    about: str
    """What it is, in a line."""

    group: Literal["baseline", "paper", "ablation"] = "paper"
    """baseline: needs no training of ours. paper: a row of the paper's tables 3 and 4. ablation: STORE but for one
    thing."""

    model: Model = "llm"
    """What continues a history."""

    embedding: Embedding | None = None
    """What codes are made from; none for models over item ids."""

    coder: Coder = "unique"
    """How codes are made: k-means per dense token, RQ-VAE (with LC-Rec's uniform mapping), or one code per item."""

    policy: Policy | None = None
    """Collision policy; none takes the comparison's."""

    start: Literal["tokenizer", "fresh"] = "fresh"
    """Weights the language model starts from: the dense tokenizer's tuned ones, or its own."""

    recommender: dict[str, Any] = Field(default_factory=dict)
    """Fields of the recommender's configuration that make this system what it is."""

    search: dict[str, Any] = Field(default_factory=dict)
    """Fields of the search's configuration likewise."""

    @property
    def trained(self) -> bool:
        """Whether it has a learning rate, and so trials and seeds."""
        return self.model not in ("markov", "popularity")

    def recommender_config(self, base: RecommenderConfig) -> RecommenderConfig:
        """``base`` with this system's fields."""
        return RecommenderConfig.parse(base.model_dump() | self.recommender, source=f"system {self.name}")

    def search_config(self, base: SearchConfig) -> SearchConfig:
        """``base`` with this system's fields."""
        return SearchConfig.parse(base.model_dump() | self.search, source=f"system {self.name}")
