"""Questions of several users answered in one batch, each with its own exclusions, filter and length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from storerec.data.histories import Histories
from storerec.errors import DataError, StorerecError
from storerec.pipeline.answers import Recommendation, Score
from storerec.systems.reserve import search_with_reserve

if TYPE_CHECKING:
    from storerec.pipeline.store import STORE

FALLBACK = "the history holds no item of the catalogue: these are probable as a first item"
"""What is done for a history without any known item."""


@dataclass(frozen=True)
class RecommendRequest:
    """What one user asks for.

    Attributes
    ----------
    history: item ids, oldest first; unknown ones are left out and reported.
    k: items wanted.
    exclude: item ids never to return; ``exclude_history`` adds those of the history.
    where: attribute to the values allowed; an item must match every attribute. An attribute that is a list in the
        items' table, and so is joined by ", ", matches by any of its entries.
    new_share: share of the places kept for items added after training; None takes the search's own.
    """

    history: tuple[str, ...]
    k: int = 10
    exclude: tuple[str, ...] = ()
    exclude_history: bool = False
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    new_share: float | None = None


@dataclass(frozen=True)
class RecommendAnswer:
    """What one user gets.

    Attributes
    ----------
    items: best first; fewer than k where no more are allowed.
    unknown: ids of the history that the catalogue lacks.
    fallback: None, or what was done for a history without any known item.
    """

    items: tuple[Recommendation, ...]
    unknown: tuple[str, ...] = ()
    fallback: str | None = None


@dataclass(frozen=True)
class ScoreRequest:
    """Candidates of one user to be scored; ``history`` as in :class:`RecommendRequest`."""

    history: tuple[str, ...]
    candidates: tuple[str, ...]


@dataclass(frozen=True)
class ScoreAnswer:
    """Scored candidates of one user, best first, and ids of the history that the catalogue lacks."""

    items: tuple[Score, ...]
    unknown: tuple[str, ...]
    scored_by: str


def recommend_all(store: STORE, requests: Sequence[RecommendRequest]) -> list[RecommendAnswer | StorerecError]:
    """Answer all, those of one filter and width of search in one batch; a bad one becomes its own error.

    A user's list depends on that user's request alone, not on the others in the call.
    """
    answers: list[RecommendAnswer | StorerecError | None] = [None] * len(requests)
    together: dict[tuple[object, int], list[int]] = {}
    asked: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
    histories = _looked_up(store, [request.history for request in requests])
    for place, (request, history) in enumerate(zip(requests, histories, strict=True)):
        try:
            asked[place] = history, _left_out(store, request, history)
            beam = max(store.config.search.beam, request.k)  # the search is as wide as this, so lists depend on it
            together.setdefault((_key(store, request), beam), []).append(place)
        except StorerecError as error:
            answers[place] = error
    for places in together.values():
        some = [requests[place] for place in places]
        found = _batch(store, some, [asked[place] for place in places])
        for place, answer in zip(places, found, strict=True):
            answers[place] = answer
    return [answer for answer in answers if answer is not None]


def _batch(
    store: STORE, requests: Sequence[RecommendRequest], asked: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> list[RecommendAnswer]:
    """Answers of one filter and width: ``asked`` are each one's history and excluded rows."""
    past = [rows[rows >= 0] for rows, _ in asked]
    ends = np.cumsum([0, *map(len, past)])
    users = [str(number) for number in range(len(past))]
    histories = Histories.from_arrays(users, ends, np.concatenate(past).astype(np.int32))
    banned = store.removed | ~_matching(store, requests[0].where)
    each = [out for _, out in asked]
    k = np.array([one.k for one in requests])
    share = np.array([store.share_for_new(one.new_share) for one in requests])
    lists = search_with_reserve(
        lambda wanted, out: store.system.recommend_each(histories, wanted, each, out), k, share, store.new, banned
    )
    ids, titles, codes = store.catalogue.ids, store.catalogue.titles, store.table.codes
    answers = []
    for request, (rows, _), items, scores in zip(requests, asked, lists.items, lists.scores, strict=True):
        chosen = items[: request.k][items[: request.k] >= 0].tolist()
        found = tuple(
            Recommendation(ids[row], titles[row], float(score), tuple(int(code) for code in codes[row]))
            for row, score in zip(chosen, scores, strict=False)
        )
        fallback = None if (rows >= 0).any() else FALLBACK
        answers.append(RecommendAnswer(found, _unknown(request.history, rows), fallback))
    return answers


def score_all(store: STORE, requests: Sequence[ScoreRequest]) -> list[ScoreAnswer | StorerecError]:
    """Answer all; a bad one becomes its own error."""
    answers: list[ScoreAnswer | StorerecError] = []
    for request in requests:
        rows = store.catalogue.rows(request.history)
        known = [item for item, row in zip(request.history, rows, strict=True) if row >= 0]
        try:
            items = tuple(store.score(known, request.candidates))
        except StorerecError as error:
            answers.append(error)
        else:
            answers.append(ScoreAnswer(items, _unknown(request.history, rows), store.scored_by))
    return answers


def _looked_up(store: STORE, histories: Sequence[Sequence[str]]) -> list[NDArray[np.int64]]:
    """Rows of each history's ids, -1 for unknown ones: looked up together, since each look-up takes .6 ms."""
    if not histories:
        return []
    rows = store.catalogue.rows([item for history in histories for item in history])
    return np.split(rows, np.cumsum([len(history) for history in histories])[:-1])


def _left_out(store: STORE, request: RecommendRequest, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows that are in no list of this user, whose history's are ``rows``."""
    if request.k < 1:
        raise DataError(f"k must be at least 1, got {request.k}")
    store.share_for_new(request.new_share)
    out = store.catalogue.rows(request.exclude)
    if (out < 0).any():
        raise DataError(f"exclude: no item '{request.exclude[int(np.argmin(out))]}' in the catalogue")
    return np.concatenate([out, rows[rows >= 0]]) if request.exclude_history else out


def _key(store: STORE, request: RecommendRequest) -> object:
    """What requests of one filter have in common; DataError for an attribute that the catalogue lacks."""
    for name, values in request.where.items():
        store.catalogue.attribute(name)
        if not values:
            raise DataError(f"where: no value is allowed for '{name}'; give one, or leave the attribute out")
    return tuple(sorted((name, tuple(sorted(set(values)))) for name, values in request.where.items()))


def _matching(store: STORE, where: Mapping[str, tuple[str, ...]]) -> NDArray[np.bool_]:
    """(items,) which match."""
    matches = np.ones(len(store.catalogue), bool)
    for name, values in where.items():
        texts = store.catalogue.attribute(name)
        entries = texts.str.split(", ").list.eval(pl.element().is_in(list(values))).list.any()
        matches &= (texts.is_in(list(values)) | entries).to_numpy()
    return matches


def _unknown(history: Sequence[str], rows: NDArray[np.int64]) -> tuple[str, ...]:
    return tuple(item for item, row in zip(history, rows, strict=True) if row < 0)
