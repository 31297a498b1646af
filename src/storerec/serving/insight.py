"""What a person wants to see beyond lists, computed on the worker thread: why, a map, and what is served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from storerec.codes import CodebookFit, CodeReport
from storerec.data.catalogue import Catalogue
from storerec.errors import DataError
from storerec.pipeline.live import Live
from storerec.pipeline.why import Why
from storerec.serving.refusals import UnknownItemError

_SAMPLE = 20_000
"""Items that are looked at to tell an attribute's frequent values."""

_VALUES, _LONGEST_VALUE = 60, 80
_MOST_CODES = 1024
_EXAMPLES = 6


@dataclass(frozen=True)
class Point:
    """An item on the map; ``value`` is the first entry of the attribute asked for."""

    item_id: str
    title: str
    x: float
    y: float
    codes: tuple[int, ...]
    value: str


@dataclass(frozen=True)
class Map:
    """Items in two dimensions: all that are in lists, or a sample of them, by catalogue row."""

    items: int
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Attribute:
    """A text attribute, its usual length in characters, and its frequent values (none where all are different)."""

    name: str
    length: float
    values: tuple[str, ...]


@dataclass(frozen=True)
class About:
    """What is served.

    Attributes
    ----------
    items: those in lists; ``removed`` ones are not counted.
    usage: by position, items of each code, the most used first, up to some number of codes.
    examples: ids and titles of a few items from all over the catalogue.
    fit: how the codebook fits items added since the training, if there are any.
    scored_by: what scores of candidates are.
    """

    items: int
    removed: int
    attributes: tuple[Attribute, ...]
    title_attribute: str
    examples: tuple[tuple[str, str], ...]
    report: CodeReport
    usage: tuple[tuple[int, ...], ...]
    fit: CodebookFit | None
    has_scorer: bool
    scored_by: str


def why(live: Live, history: Sequence[str], item_id: str, others: int) -> Why:
    """How a history leads to an item; UnknownItemError for one that is unknown or removed."""
    try:
        if not live.removed(item_id):
            return live.why(history, item_id, others=others)
    except DataError as error:
        raise UnknownItemError(str(error)) from None
    raise UnknownItemError(f"item '{item_id}' was removed")


def map_of(live: Live, attribute: str | None, most: int, also: Sequence[str]) -> Map:
    """At most ``most`` items, evenly over the catalogue, and those of ``also``; DataError for an unknown attribute."""
    places, store = live.places(), live.store
    listed = np.flatnonzero(~store.removed)
    rows = listed[np.unique(np.linspace(0, len(listed) - 1, min(len(listed), most)).astype(np.int64))]
    wanted = store.catalogue.rows(list(also)) if also else np.empty(0, np.int64)
    rows = np.union1d(rows, np.intersect1d(wanted, listed))
    some = store.catalogue.frame[rows]
    values = [""] * len(rows)
    if attribute is not None:
        store.catalogue.attribute(attribute)
        values = some[attribute].str.split(", ").list.first().fill_null("").str.slice(0, _LONGEST_VALUE).to_list()
    columns = zip(
        some["item_id"].to_list(),
        some[store.catalogue.title_attribute].to_list(),
        places[rows].astype(float).tolist(),
        store.table.codes[rows].tolist(),
        values,
        strict=True,
    )
    return Map(len(listed), tuple(Point(one, title, x, y, tuple(c), v) for one, title, (x, y), c, v in columns))


def about(live: Live) -> About:
    """What is served, as it is now."""
    fit, store = live.codebook_fit(), live.store  # the fit is the first to ask, so that all is of one version
    catalogue, table = store.catalogue, store.table
    listed = np.flatnonzero(~store.removed)
    some = listed[np.unique(np.linspace(0, len(listed) - 1, min(len(listed), _EXAMPLES)).astype(np.int64))].tolist()
    counts = [np.bincount(table.codes[:, i], minlength=int(size)) for i, size in enumerate(table.sizes)]
    return About(
        items=len(listed),
        removed=len(catalogue) - len(listed),
        attributes=_attributes(catalogue),
        title_attribute=catalogue.title_attribute,
        examples=tuple((catalogue.ids[row], catalogue.titles[row]) for row in some),
        report=store.code_report(),
        usage=tuple(tuple(np.sort(one)[::-1][:_MOST_CODES].tolist()) for one in counts),
        fit=fit,
        has_scorer=store.scorer is not None,
        scored_by=store.scored_by,
    )


def _attributes(catalogue: Catalogue) -> tuple[Attribute, ...]:
    frame = catalogue.frame
    if frame.height > _SAMPLE:
        frame = frame[np.unique(np.linspace(0, frame.height - 1, _SAMPLE).astype(np.int64))]
    return tuple(_attribute(frame[name], name == catalogue.title_attribute) for name in catalogue.attributes)


def _attribute(texts: pl.Series, is_title: bool) -> Attribute:
    """A value is worth offering where several items have it; entries of a list count each, and titles are no values."""
    length = float(texts.str.len_chars().to_numpy().mean())
    if is_title:
        return Attribute(texts.name, length, ())
    entries = texts.str.split(", ").explode().drop_nulls()
    short = entries.filter((entries.str.len_chars() > 0) & (entries.str.len_chars() <= _LONGEST_VALUE))
    frame = short.alias("value").value_counts().filter(pl.col("count") > 1)
    values = frame.sort(["count", "value"], descending=[True, False])["value"].head(_VALUES)
    return Attribute(texts.name, length, tuple(values.to_list()))
