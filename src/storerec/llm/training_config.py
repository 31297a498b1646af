"""Settings of the training loop, apart from it: all configurations have them, and the loop imports transformers."""

from __future__ import annotations

from pydantic import Field

from storerec.config import Config


class TrainingConfig(Config):
    """How long and how fast to train."""

    epochs: float = 10
    """Passes over the data at most."""

    max_steps: int | None = None
    """Optimizer steps at most, over epochs if given."""

    max_minutes: float | None = None
    """Wall-clock budget: training ends at the first step past it (a resumed run counts anew). None sets no budget;
    with one, the result depends on the machine's speed."""

    learning_rate: float = 1e-4
    """Peak learning rate."""

    warmup: float = 0.03
    """Share of the steps over which the learning rate rises."""

    schedule: str = "linear"
    """A transformers schedule name: linear, cosine, constant_with_warmup, ..."""

    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW; 0 is Adam, as in the paper)."""

    adam_beta2: float = 0.999
    """Adam's second-moment decay."""

    max_grad_norm: float = 1.0
    """Gradient clipping."""

    average: float | None = Field(default=None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights; the average is what is validated and kept. None keeps the
    weights themselves."""

    checkpoint_steps: int | None = None
    """Steps between checkpoints; none makes one an epoch."""

    patience: int | None = None
    """Validations without improvement before training stops; none validates but never stops early."""
