"""Settings of an evaluation."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from storerec.config import Config


class EvaluationConfig(Config):
    """What is measured and how; the same for every system of a table."""

    ks: tuple[Annotated[int, Field(ge=1)], ...] = Field((1, 5, 10, 20), min_length=1)
    """Cut-offs K of Recall@K, NDCG@K and coverage@K. Lists are as long as the largest."""

    exclude_history: bool = False
    """Whether items of a user's own history are left out of its list. The paper's protocol keeps them."""

    mrr: bool = False
    """Whether MRR over the whole list is shown too."""

    bootstrap_samples: int = Field(1000, ge=1)
    """Resamples of the users behind each interval."""

    confidence: float = Field(0.95, gt=0, lt=1)
    """Confidence level of the intervals."""

    batch_size: int = Field(1024, ge=1)
    """Users handed to a system at a time, unless it batches by itself; bounds memory and changes no result."""

    @field_validator("ks")
    @classmethod
    def _sorted_once(cls, ks: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(ks)))
