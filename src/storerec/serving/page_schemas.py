"""What requests and answers of the page look like, beyond those of the items' routes."""

from __future__ import annotations

from pydantic import Field

from storerec.serving.schemas import Answer, Body, FoundItem, ItemId


class WhyBody(Body):
    """Which item, after which history."""

    history: list[ItemId] = Field(examples=[["item-7", "item-12"]])
    """Ids of the items chosen so far, oldest first. Unknown ones are left out."""

    item_id: ItemId = Field(examples=["item-3"])
    """The item to explain."""

    others: int = Field(default=4, ge=0, le=20)
    """How many other codes to tell at each position."""


class BranchBody(Answer):
    """A code of some position, behind the codes before it."""

    code: int
    """Its number."""

    probability: float
    """Of this code after the history and the codes before it, among those that lead to an item."""

    items: int
    """How many items lie under it."""

    titles: list[str]
    """Titles of some of them: what the code stands for."""


class StepBody(Answer):
    """One position of the item's codes."""

    chosen: BranchBody
    """The code the item has."""

    others: list[BranchBody]
    """The most probable others, best first."""


class WhyAnswerBody(Answer):
    """How a history leads to an item."""

    item_id: str
    """Its id."""

    title: str
    """Its title."""

    steps: list[StepBody]
    """One a position; the product of the chosen codes' probabilities is that of the item's codes."""

    share: float
    """Of the item among those with the same codes."""

    alone: float | None
    """Probability of the item by its own row, where the recommender has such."""

    weight: float
    """Weight of ``alone`` in the score; the rest is that of codes and share."""

    score: float
    """Weighted mean of the two log-probabilities."""


class PointBody(Answer):
    """An item on the map."""

    item_id: str
    """Its id."""

    title: str
    """Its title."""

    x: float
    """Its place from left to right."""

    y: float
    """Its place from bottom to top."""

    codes: list[int]
    """Its semantic ID."""

    value: str
    """First entry of the attribute asked for; empty where none was asked for."""


class MapAnswerBody(Answer):
    """Items in two dimensions; items of similar codes are near each other."""

    items: int
    """Items that are in lists; where the points are fewer, they are a sample of these."""

    points: list[PointBody]
    """The items, in the order of the catalogue."""


class AttributeBody(Answer):
    """A text attribute of the items."""

    name: str
    """Its name."""

    length: float
    """Its usual length in characters."""

    values: list[str]
    """Values that several items have, the most frequent first; none for running text."""


class PositionBody(Answer):
    """Use of the codes of one position."""

    size: int
    """Codes there are."""

    used: int
    """Codes that at least one item has."""

    perplexity: float
    """Codes that are used in effect: exp of the entropy of their shares."""

    counts: list[int]
    """Items of each code, the most used first; of large codebooks not all."""


class CodesBody(Answer):
    """How well the codes are used."""

    items: int
    """Items with codes, removed ones among them."""

    tuples: int
    """Different semantic IDs."""

    colliding_share: float
    """Share of the items whose semantic ID others have too."""

    largest_bucket: int
    """Most items with one semantic ID."""

    positions: list[PositionBody]
    """By position."""


class FitBody(Answer):
    """How the codebook fits items added since the training."""

    items: int
    """How many."""

    far: list[float]
    """By position, the share that lies far from its centre; 0.05 by chance."""

    refit: bool
    """Whether to fit anew for their sake."""

    verdict: str
    """The same in a sentence."""


class IntervalBody(Answer):
    """A measured value with its interval."""

    value: float
    """Mean over the users."""

    low: float
    """Lower end."""

    high: float
    """Upper end."""


class SliceBody(Answer):
    """A system's figures on a part of the users."""

    name: str
    """Training events of the user's target item."""

    users: int
    """Users in it."""

    metrics: dict[str, IntervalBody]
    """By metric; none where there is no user."""


class FiguresBody(Answer):
    """One system's figures."""

    system: str
    """Its name."""

    metrics: dict[str, IntervalBody]
    """By metric, at the level of items."""

    coverage: dict[str, float]
    """Share of the catalogue that stands in any user's list."""

    slices: list[SliceBody]
    """By how often the target item occurs in training."""


class EvaluationBody(Answer):
    """What was measured of the run."""

    users: int
    """Users; one target item each."""

    items: int
    """Items ranked."""

    protocol: str | None
    """How the targets were held out."""

    exclude_history: bool
    """Whether a user's own items were left out of the list."""

    confidence: float
    """Level of the intervals."""

    systems: list[FiguresBody]
    """The systems, in the order measured."""


class AboutAnswerBody(Answer):
    """What is served."""

    items: int
    """Items that are in lists."""

    removed: int
    """Items taken out of the lists."""

    max_k: int
    """Most items that one request may ask for."""

    attributes: list[AttributeBody]
    """Text attributes of the items."""

    title_attribute: str
    """The one shown to people."""

    examples: list[FoundItem]
    """A few items from all over the catalogue."""

    codes: CodesBody
    """How well the codes are used."""

    fit: FitBody | None
    """How the codebook fits items added since the training, where there are any."""

    evaluation: EvaluationBody | None
    """What was measured, where the run folder has it."""

    has_scorer: bool
    """Whether a scorer was trained."""

    scored_by: str
    """What scores of given candidates are."""
