"""The wording of the instructions, in one place and versioned with the model (the paper's are in pictures)."""

from __future__ import annotations

from pydantic import Field

from storerec.config import Config


class Prompts(Config):
    """Texts around item codes. A change makes a trained model read something it has not seen, so bundles keep it."""

    version: int = 1
    """Version of this wording."""

    sequence: str = Field(default="A user chose these items, oldest first, and then the next one:", min_length=1)
    """Before the codes of a history; the next item's codes follow the history directly."""

    alignment_before: str = "Item:"
    """Before an item's text."""

    alignment_after: str = Field(default="\nIts codes:", min_length=1)
    """Between an item's text and its codes."""

    describe: str = Field(default="The item with these codes:", min_length=1)
    """Before an item's codes, where its text is to follow them."""

    titles: str = Field(default="A user chose these items, oldest first:", min_length=1)
    """Before the titles of a history; ``alignment_after`` and the next item's codes follow."""

    score_question: str = Field(default="\nYes or no?", min_length=1)
    """After the codes of a history and of one candidate, which follow ``sequence`` directly; the answer comes next."""

    score_yes: str = Field(default=" yes", min_length=1)
    """The answer whose probability is a candidate's score."""

    score_no: str = Field(default=" no", min_length=1)
    """The other answer."""

    @classmethod
    def short(cls) -> Prompts:
        """The shortest wording that still tells the tasks apart, for machines where each token counts."""
        return cls(sequence="Next:", alignment_before="", alignment_after="\nCodes:")
