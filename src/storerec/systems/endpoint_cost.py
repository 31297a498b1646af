"""What scoring by an endpoint will take and has taken."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class CostEstimate:
    """What scoring will take.

    Attributes
    ----------
    requests: questions still to ask; equal questions count once.
    cached: different questions whose answers are there already.
    input_tokens: tokens to send.
    output_tokens: tokens that come back at most.
    cost: in the currency of the prices; None where one is unknown.
    counted_by: how tokens were counted.
    """

    requests: int
    cached: int
    input_tokens: int
    output_tokens: int
    cost: float | None
    counted_by: str

    def __str__(self) -> str:
        """One line for people."""
        price = "unknown (no prices given)" if self.cost is None else f"about {self.cost:.4g}"
        return (
            f"{self.requests:,} requests ({self.cached:,} answers are cached), about {self.input_tokens:,} tokens in "
            f"and at most {self.output_tokens:,} out by {self.counted_by}, cost {price}"
        )


@dataclass
class EndpointReport:
    """What the last call of :meth:`EndpointScorer.score` did; answers are counted once per different question.

    Attributes
    ----------
    requests: answers that were asked for.
    cached: answers that were there.
    by_probability, by_word, unclear: how answers were read; unclear ones (neither yes nor no) score 0.5.
    input_tokens, output_tokens: as the server counted them, of the answers asked for.
    cost: of those; None where a price is unknown.
    """

    requests: int = 0
    cached: int = 0
    by_probability: int = 0
    by_word: int = 0
    unclear: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None


def token_counter(model: str) -> tuple[Callable[[str], int], str]:
    """A function that counts the tokens of a text, and its name: tiktoken's for OpenAI's models where it is installed
    and has its vocabulary at hand, else a quarter of the characters.
    """
    try:
        import tiktoken

        encoding = tiktoken.encoding_for_model(model)
    except (ImportError, KeyError, OSError, ValueError):  # it fetches vocabularies, and knows only OpenAI's
        return lambda text: math.ceil(len(text) / 4), "a quarter of the characters"
    return lambda text: len(encoding.encode(text, disallowed_special=())), f"tiktoken ({encoding.name})"
