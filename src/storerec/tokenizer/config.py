"""Configuration of the dense tokenizer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from storerec.config import Config
from storerec.llm.adapters import LoraConfig
from storerec.llm.training_config import TrainingConfig


class TokenizerConfig(Config):
    """How item text becomes dense tokens, and how the tokenizer is trained."""

    dense_tokens: int = Field(default=4, ge=1, le=16)
    """Dense tokens per item, v (paper: 4)."""

    content: tuple[str, ...] | None = None
    """Attributes in the content block; none takes all of the catalogue but those in ``generate``."""

    generate: tuple[str, ...] = ()
    """Attributes kept out of the content and generated from the dense tokens (paper, Table 2: MIND's category and
    subcategory, Yelp's state)."""

    reconstruct: tuple[str, ...] | None = None
    """Content attributes to reconstruct; none reconstructs all of them."""

    max_content_tokens: int = Field(default=128, ge=4)
    """Text tokens of the content block at most; longer content is cut."""

    max_task_tokens: int = Field(default=64, ge=2)
    """Text tokens of one task's answer at most, its end token not counted; longer answers are cut (and then have
    no end token)."""

    fill: Literal["rescaled", "plain"] = "rescaled"
    """What fills the placeholder: the token block's outputs brought to the word embeddings' RMS by a learned gain,
    or as they are (paper). Last-layer outputs are far larger than word embeddings (SmolLM2-135M: RMS 2.1 to 0.14)."""

    lora: LoraConfig = LoraConfig(rank=32)
    """The tokenizer's adapter (paper: rank 32)."""

    batch_items: int = Field(default=128, ge=1)
    """Items per optimizer step; each gives one sample per task (paper: 512 samples, that is 128 items of 4 tasks)."""

    train_items: int | None = None
    """Train on a random sample of this many items; none takes all."""

    training: TrainingConfig = TrainingConfig(learning_rate=1e-4, epochs=3)
    """Duration and optimizer (paper: Adam, 1e-4)."""

    encode_tokens: int = Field(default=4096, ge=128)
    """Text tokens per batch when encoding a catalogue, on a CPU at most 512; bounds memory."""

    encode_chunk: int = Field(default=1024, ge=1)
    """Items that are encoded together and kept as one file. Batches are made within a chunk, so that its dense tokens
    are the same whichever process encodes it; an interrupted encoding goes on with the chunks that are missing."""
