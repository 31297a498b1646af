"""What a scorer of the comparison is made of, and the rows of the paper's Table 5."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from storerec.config import Config
from storerec.systems.lcrec import LC_REC
from storerec.systems.recipe import Recipe
from storerec.systems.tiger import TIGER_LLM
from storerec.systems.variants import STORE

_PAPER = "arXiv 2409.07276, Table 5"


class ScorerRecipe(Config):
    """One row of the scoring table.

    What a recipe leaves open (prompts, adapters, epochs) is the comparison's configuration, the same for every row.
    """

    name: str
    """Name on the command line and in tables."""

    paper: str
    """Where the row comes from."""

    about: str
    """What it is, in a line."""

    kind: Literal["codes", "llm", "encoder", "endpoint", "popularity", "markov"]
    """What reads a candidate: codes by yes and no, titles by a language model, an encoder or an endpoint, or counts."""

    tuned: bool = False
    """Whether it learns from training judgements."""

    base: Recipe | None = None
    """The system whose codes and weights a scorer over codes starts from."""

    @property
    def seeded(self) -> bool:
        """Whether anything is drawn, so that several seeds say something."""
        return self.tuned

    @model_validator(mode="after")
    def _codes_have_a_base(self) -> Self:
        if self.kind == "codes" and (self.base is None or self.base.model != "llm" or not self.tuned):
            raise ValueError("a scorer over codes is tuned, and needs a base that is a language model over codes")
        return self


def _over_codes(name: str, base: Recipe) -> ScorerRecipe:
    about = f"yes or no over the codes of {base.name}, trained on top of its recommender"
    return ScorerRecipe(name=name, paper=_PAPER, about=about, kind="codes", tuned=True, base=base)


SCORER_RECIPES = (
    ScorerRecipe(
        name="score-popularity", paper="baseline (ours)", about="training events of the item", kind="popularity"
    ),
    ScorerRecipe(
        name="score-markov",
        paper="baseline (ours)",
        about="how often the item followed the history's last one, then popularity",
        kind="markov",
    ),
    ScorerRecipe(
        name="score-bert-zero",
        paper=_PAPER,
        about="cosine of history and candidate text by an untuned encoder",
        kind="encoder",
    ),
    ScorerRecipe(
        name="score-llm-zero", paper=_PAPER, about="yes or no of the untuned language model over titles", kind="llm"
    ),
    ScorerRecipe(
        name="score-openai",
        paper=_PAPER,
        about="yes or no of an OpenAI-compatible endpoint over titles",
        kind="endpoint",
    ),
    ScorerRecipe(
        name="score-bert-tuned", paper=_PAPER, about="fine-tuned cross-encoder over text", kind="encoder", tuned=True
    ),
    ScorerRecipe(
        name="score-llm-tuned",
        paper=f"after {_PAPER}",
        about="yes or no of the fine-tuned language model over titles",
        kind="llm",
        tuned=True,
    ),
    _over_codes("score-tiger", TIGER_LLM),
    _over_codes("score-lc-rec", LC_REC),
    _over_codes("score-store", STORE),
)
"""Systems that score given candidates, in the order of tables."""
