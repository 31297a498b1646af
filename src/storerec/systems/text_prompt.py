"""The question the text scorers ask: a history's titles, a candidate's text, and whether the user will like it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from storerec.config import Config
from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.errors import ConfigError

_NAMELESS = "unknown item"


class TextPromptConfig(Config):
    """Wording and lengths of the question. The paper shows its prompt in a picture only, so the words are ours."""

    version: int = 1
    """Version of this wording; results under different versions are not comparable."""

    max_history: int = Field(default=20, ge=1)
    """Most recent items of a user that are shown (paper: 20)."""

    attributes: tuple[str, ...] | None = None
    """Attributes of the candidate that are shown, as ``name: text``; none shows its title alone."""

    max_item_chars: int = Field(default=120, ge=1)
    """Characters of a history title that are shown."""

    max_candidate_chars: int = Field(default=400, ge=1)
    """Characters of the candidate's text that are shown."""

    instruction: str = "A user liked these items, oldest first:"
    """Before the history."""

    no_history: str = "(none yet)"
    """In place of an empty history."""

    candidate: str = "Another item:"
    """Before the candidate's text."""

    question: str = "Will the user like this item? Answer yes or no."
    """After the candidate's text."""

    answer: str = "Answer:"
    """Last words for models without a chat template; the answer follows."""


class TextPrompt:
    """Texts of groups and candidates. A prompt is ``instruction + history + candidate + question``, joined as they are.

    Parameters
    ----------
    catalogue: the items.
    config: wording.

    Raises
    ------
    ConfigError: the catalogue lacks an attribute of ``config.attributes``.
    """

    def __init__(self, catalogue: Catalogue, config: TextPromptConfig) -> None:
        names = config.attributes
        missing = [name for name in names or () if name not in catalogue.attributes]
        if missing or names == ():
            fault = f"no attribute '{missing[0]}'" if missing else "no attribute is named"
            raise ConfigError(f"prompt.attributes: {fault} (the items have: {', '.join(catalogue.attributes)})")
        self.config = config
        titles = pl.col(catalogue.title_attribute)
        shown = titles if names is None else _named(names)
        texts = catalogue.frame.select(
            _one_line(titles, config.max_item_chars).alias("title"),
            _one_line(shown, config.max_candidate_chars).alias("candidate"),
        )
        self._titles, self._candidates = texts["title"], texts["candidate"]

    @property
    def instruction(self) -> str:
        """What every prompt starts with."""
        return self.config.instruction

    @property
    def question(self) -> str:
        """What every prompt ends with."""
        return f"\n{self.config.question}"

    def histories(self, histories: Histories) -> pl.Series:
        """Titles of each user's last items, one a line: (users,) String."""
        recent = histories.tail(self.config.max_history)
        titles = ("\n- " + self._titles[recent.items.astype(np.int64)]).to_arrow(compat_level=pl.CompatLevel.oldest())
        lists = pl.Series(pa.LargeListArray.from_arrays(pa.array(recent.offsets), titles))
        texts = lists.cast(pl.List(pl.String)).list.join("")
        return texts.replace("", f"\n{self.config.no_history}").alias("history")

    def candidates(self, items: NDArray[np.integer]) -> pl.Series:
        """Text of each candidate: catalogue rows (n,) to (n,) String."""
        return f"\n{self.config.candidate} " + self.texts(items)

    def texts(self, items: NDArray[np.integer]) -> pl.Series:
        """Text of items as candidates without the words before it: catalogue rows (n,) to (n,) String."""
        return self._candidates[np.asarray(items, np.int64)]


def _named(names: tuple[str, ...]) -> pl.Expr:
    """``name: text; name: text`` over the attributes that are not empty."""
    parts = [pl.when(pl.col(name).str.len_bytes() > 0).then(pl.lit(f"{name}: ") + pl.col(name)) for name in names]
    return pl.concat_str(parts, separator="; ", ignore_nulls=True)


def _one_line(text: pl.Expr, characters: int) -> pl.Expr:
    """Text without line breaks (they divide the prompt), cut, never empty."""
    plain = text.str.replace_all(r"\s+", " ").str.strip_chars().str.head(characters)
    return pl.when(plain.str.len_bytes() > 0).then(plain).otherwise(pl.lit(_NAMELESS))
