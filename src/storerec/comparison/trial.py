"""A trial of tuning: how a system's configured settings are changed."""

from __future__ import annotations

from pydantic import Field

from storerec.config import Config
from storerec.llm.training_config import TrainingConfig


class Trial(Config):
    """Factors on what every trained system is configured with; 1 leaves all as it is."""

    rate: float = Field(default=1.0, gt=0)
    """Factor on the learning rate."""

    dropout: float = Field(default=1.0, ge=0)
    """Factor on every dropout."""

    @property
    def name(self) -> str:
        """Short, and unique among trials."""
        return f"rate{self.rate:g}" + (f"-dropout{self.dropout:g}" if self.dropout != 1 else "")

    def training(self, training: TrainingConfig) -> TrainingConfig:
        """The same training at this trial's learning rate."""
        return training.model_copy(update={"learning_rate": training.learning_rate * self.rate})

    def dropped(self, config: Config, *fields: str) -> dict[str, float]:
        """Those dropouts of ``config`` that it has, at this trial's strength, below 1 at most."""
        set_ones = {field: value for field in fields if (value := getattr(config, field)) is not None}
        return {field: min(value * self.dropout, 0.95) for field, value in set_ones.items()}
