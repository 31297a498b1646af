"""An answer of an endpoint, and what it says of a candidate."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass
from typing import Self

UNCLEAR = 0.5
"""Score of an answer that says neither yes nor no."""


@dataclass(frozen=True)
class Answer:
    """What an endpoint said.

    Attributes
    ----------
    text: the words.
    top: (token, log-probability) of the likeliest first tokens, likeliest first; None where the server gave none.
    input_tokens, output_tokens: as the server counted them (0 where it did not).
    """

    text: str
    top: tuple[tuple[str, float], ...] | None
    input_tokens: int
    output_tokens: int

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read back what :meth:`to_json` gave."""
        fields = json.loads(text)
        top = fields["top"]
        fields["top"] = None if top is None else tuple((str(token), float(p)) for token, p in top)
        return cls(**fields)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)


def read_answer(answer: Answer, *, probabilities: bool) -> tuple[float, str]:
    """Score of an answer, and how it was read: ``by_probability``, ``by_word`` or ``unclear``.

    Probabilities of all spellings of a word add up. Where only one of the two is among the likeliest tokens, the other
    is taken to be as likely as the last of them, or as what they leave over if that is less.
    """
    if probabilities and answer.top:
        chances = [(_word(token), math.exp(p)) for token, p in answer.top]
        yes, no = (sum(p for word, p in chances if word == wanted) for wanted in ("yes", "no"))
        if yes or no:
            rest = min(chances[-1][1], max(0.0, 1.0 - sum(p for _, p in chances)))
            yes, no = yes or rest, no or rest
            return yes / (yes + no), "by_probability"
    found = re.match(r"\W*(yes|no)\b", answer.text, re.IGNORECASE)
    if found is None:
        return UNCLEAR, "unclear"
    return float(found[1].lower() == "yes"), "by_word"


def _word(token: str) -> str:
    return token.strip(" \n\t▁Ġ*\"'.").lower()
