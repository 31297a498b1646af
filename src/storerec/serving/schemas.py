"""What requests and answers look like. Limits that are settings of the service come from :mod:`.limits`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

_LONGEST_ID, _LONGEST_TEXT = 512, 100_000

ItemId = Annotated[str, StringConstraints(min_length=1, max_length=_LONGEST_ID)]
Word = Annotated[str, StringConstraints(max_length=_LONGEST_ID)]
Text = Annotated[str, StringConstraints(max_length=_LONGEST_TEXT)]


class Body(BaseModel):
    """A request: fields of other names are errors, and so are numbers written as texts."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True, frozen=True)


class Answer(BaseModel):
    """An answer: every field is told in the description."""

    model_config = ConfigDict(use_attribute_docstrings=True, frozen=True)


class RecommendBody(Body):
    """What to recommend after a history."""

    history: list[ItemId] = Field(examples=[["item-7", "item-12"]])
    """Ids of the items chosen so far, oldest first. Unknown ones are left out and told in the answer."""

    k: int = Field(default=10, ge=1, examples=[10])
    """How many items to recommend."""

    exclude: list[ItemId] = Field(default_factory=list, examples=[["item-3"]])
    """Ids never to recommend; each must be known."""

    exclude_history: bool = False
    """Whether to leave out the items of the history too."""

    where: dict[Word, Annotated[list[Text], Field(min_length=1, max_length=1000)]] = Field(
        default_factory=dict, max_length=32, examples=[{"category": ["shoes", "hats"]}]
    )
    """Attribute to the values allowed; an item must match every attribute."""

    new_share: float | None = Field(default=None, ge=0, le=1, examples=[0.1])
    """Share of the places kept for items added after training, whole places only; without it, what the bundle's
    configuration says (a tenth by default)."""


class RecommendedItem(Answer):
    """A recommended item."""

    item_id: str
    """Its id."""

    title: str
    """Its title."""

    score: float
    """Log-probability that it comes next."""

    codes: list[int]
    """Its semantic ID."""


class RecommendAnswerBody(Answer):
    """What is recommended, best first."""

    items: list[RecommendedItem]
    """Best first; fewer than asked for where no more are allowed."""

    unknown: list[str]
    """Ids of the history that the catalogue lacks; they were left out."""

    fallback: str | None
    """What was done instead, where the history held no known item."""


class ScoreBody(Body):
    """Candidates to score for a history."""

    history: list[ItemId] = Field(examples=[["item-7", "item-12"]])
    """Ids of the items chosen so far, oldest first. Unknown ones are left out and told in the answer."""

    candidates: list[ItemId] = Field(min_length=1, examples=[["item-3", "item-9"]])
    """Ids of the items to score; each must be known."""


class ScoredItem(Answer):
    """A scored candidate."""

    item_id: str
    """Its id."""

    title: str
    """Its title."""

    score: float
    """Higher is better."""


class ScoreAnswerBody(Answer):
    """The candidates, best first."""

    items: list[ScoredItem]
    """Best first."""

    unknown: list[str]
    """Ids of the history that the catalogue lacks; they were left out."""

    scored_by: str
    """What the scores are."""


class NewItemBody(Body):
    """An item to add."""

    item_id: ItemId = Field(examples=["item-99"])
    """Its id. One that is known already gets the texts given here and keeps its codes; one removed comes back."""

    text: dict[Word, Text] = Field(min_length=1, examples=[{"title": "red shoes", "category": "shoes"}])
    """Its texts by attribute, one of them not blank. Attributes not named stay as they are, or empty in a new item."""


class AddBody(Body):
    """Items to add; all of them or none."""

    items: list[NewItemBody] = Field(min_length=1)
    """The items, each id once."""


class AddedItem(Answer):
    """What became of an item."""

    item_id: str
    """Its id."""

    status: str
    """``added``, ``unchanged``, ``updated`` or ``restored``."""

    codes: list[int]
    """Its semantic ID."""


class AddAnswerBody(Answer):
    """The items in the order given; they are on disk."""

    items: list[AddedItem]
    """In the order given."""


class RemovedItem(Answer):
    """What became of an item; it is on disk."""

    item_id: str
    """Its id."""

    status: str
    """``removed``, or ``absent`` where it had been removed before."""


class Neighbour(Answer):
    """An item near another one."""

    item_id: str
    """Its id."""

    title: str
    """Its title."""

    distance: int
    """How many codes differ."""


class ItemBody(Answer):
    """An item: its text, its codes, and those nearest to it by codes."""

    item_id: str
    """Its id."""

    text: dict[str, str]
    """Its texts by attribute."""

    codes: list[int]
    """Its semantic ID."""

    neighbours: list[Neighbour]
    """Nearest first."""


class FoundItem(Answer):
    """An item found by its title."""

    item_id: str
    """Its id."""

    title: str
    """Its title."""


class SearchAnswerBody(Answer):
    """Items whose titles contain what was searched for."""

    items: list[FoundItem]
    """Those found."""


class StatusBody(Answer):
    """Whether the service runs, or answers."""

    status: str = Field(examples=["ok"])
    """``ok``, or ``not ready``."""


class Fault(Answer):
    """What went wrong."""

    type: str = Field(examples=["invalid_request"])
    """A name for programs."""

    message: str = Field(examples=["k: Input should be greater than or equal to 1"])
    """A line for people; it names the field at fault."""


class ErrorBody(Answer):
    """The answer of every request that fails."""

    error: Fault
    """What went wrong."""
