"""Where an OpenAI-compatible endpoint is, what it may cost, and how hard it may be asked."""

from __future__ import annotations

import os
from typing import Literal, Self

from pydantic import Field, model_validator

from storerec.config import Config
from storerec.errors import ConfigError
from storerec.systems.text_prompt import TextPromptConfig


class EndpointConfig(Config):
    """An OpenAI-compatible chat endpoint as scorer: OpenAI's own, a hosted one, or a local server (llama.cpp, vLLM)."""

    base_url: str = "https://api.openai.com/v1"
    """Where the interface starts; the client appends ``/chat/completions``."""

    model: str = "gpt-3.5-turbo"
    """Model name, as the endpoint knows it (the paper's row is GPT-3.5)."""

    api_key_env: str | None = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key (the key itself belongs in no configuration); none sends a
    word that local servers ignore."""

    prompt: TextPromptConfig = TextPromptConfig()
    """The question."""

    system: str | None = "You judge whether a user will like an item. Answer with one word, yes or no."
    """System message; none sends none."""

    use_logprobs: bool | Literal["auto"] = "auto"
    """Score by the probabilities of yes and no: true insists on them, false takes the words YES (1) and NO (0) as the
    paper does, auto takes the probabilities where the server gives them and the words elsewhere."""

    top_logprobs: int = Field(default=20, ge=2)
    """Most likely first tokens whose probabilities are asked for (OpenAI: 20 at most)."""

    max_output_tokens: int = Field(default=4, ge=1)
    """Tokens of an answer at most."""

    token_limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the endpoint calls that limit; OpenAI's newer models want ``max_completion_tokens``."""

    temperature: float | None = 0.0
    """Sampling temperature; none leaves it out, for models that take none."""

    requests_per_minute: float | None = Field(default=60, gt=0)
    """Requests a minute at most, retries included, evenly spaced; none sets no limit."""

    tokens_per_minute: float | None = Field(default=None, gt=0)
    """Tokens a minute at most, by the estimate of each request; none sets no limit."""

    concurrency: int = Field(default=4, ge=1)
    """Requests under way at a time."""

    max_retries: int = Field(default=6, ge=0)
    """Further tries of a request that was refused for the moment (429, 5xx) or got no answer."""

    backoff_seconds: float = Field(default=1.0, gt=0)
    """Pause before the first further try; it doubles with each, up to a minute, with chance. A ``Retry-After`` of the
    server goes before."""

    timeout: float = Field(default=60.0, gt=0)
    """Seconds to wait for an answer."""

    price_per_million_input_tokens: float | None = Field(default=None, ge=0)
    """Price of what is sent, in any currency; none is unknown."""

    price_per_million_output_tokens: float | None = Field(default=None, ge=0)
    """Price of what comes back."""

    max_cost: float | None = Field(default=None, ge=0)
    """Refuse to start when the estimate is above this, and stop when what was spent is; needs both prices."""

    @model_validator(mode="after")
    def _prices_for_a_limit(self) -> Self:
        prices = (self.price_per_million_input_tokens, self.price_per_million_output_tokens)
        if self.max_cost is not None and None in prices:
            raise ValueError("max_cost needs price_per_million_input_tokens and price_per_million_output_tokens")
        return self

    def cost(self, input_tokens: int, output_tokens: int) -> float | None:
        """What so many tokens cost; None where a price is unknown."""
        read, written = self.price_per_million_input_tokens, self.price_per_million_output_tokens
        return None if read is None or written is None else (read * input_tokens + written * output_tokens) / 1e6

    def key(self) -> str:
        """The API key; ConfigError when the variable that should hold it is not set."""
        if self.api_key_env is None:
            return "none"
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise ConfigError(
                f"endpoint {self.base_url}: the environment variable {self.api_key_env} is not set; put the key there, "
                "or set api_key_env to null for a server that needs none"
            )
        return key
