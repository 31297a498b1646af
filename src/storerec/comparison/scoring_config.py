"""Settings of the scoring part of a comparison (paper, section 4.4 and Table 5)."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from storerec.config import Config
from storerec.data.readers.ratings import JudgementConfig
from storerec.data.splits import SplitConfig
from storerec.recommender.scoring import ScorerConfig
from storerec.systems.encoder_scorer import EncoderScorerConfig
from storerec.systems.endpoint_config import EndpointConfig
from storerec.systems.llm_scorer import LlmScorerConfig


class ScoringConfig(Config):
    """What is judged, how its users are divided, and the settings of each kind of scorer."""

    judgements: JudgementConfig = JudgementConfig()
    """How groups of candidates are made."""

    split: SplitConfig | None = None
    """Users whose candidates are test, and those that scorers and the recommenders below them learn from. None takes
    the comparison's own split where it is by users, else a tenth of the users as test."""

    test_groups: int | None = Field(default=None, ge=1)
    """Test groups scored at most, drawn by seed, the same for every scorer; none scores all."""

    validation_groups: int | None = Field(default=None, ge=1)
    """Validation groups likewise."""

    scorer: ScorerConfig = ScorerConfig()
    """Scorers over codes."""

    llm: LlmScorerConfig = LlmScorerConfig()
    """The comparison's language model over titles, as it is and fine-tuned."""

    encoder: EncoderScorerConfig = EncoderScorerConfig()
    """The encoder over text, as it is and fine-tuned."""

    endpoint: EndpointConfig | None = None
    """An OpenAI-compatible endpoint; none leaves its row out."""

    @model_validator(mode="after")
    def _by_users(self) -> Self:
        if self.split is not None and self.split.protocol != "users":
            raise ValueError("split: scoring needs protocol 'users': test users' candidates must be in no training")
        return self
