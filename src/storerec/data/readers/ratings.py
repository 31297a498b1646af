"""Judgements from stars or labels: what each user said of items, in time order."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from storerec.config import Config
from storerec.data.catalogue import Catalogue
from storerec.data.events import Clock
from storerec.data.histories import Histories, Unknown
from storerec.data.judgements import Candidates, Judgements
from storerec.data.readers.rows import RowReader
from storerec.errors import DataError, StorerecWarning

_LABELS = {"1": True, "true": True, "yes": True, "1.0": True, "0": False, "false": False, "no": False, "0.0": False}


class JudgementConfig(Config):
    """How judgements are made from events with stars or labels, and how much of a user is kept."""

    max_history: int = Field(default=20, ge=1)
    """Most recent items before a group's candidates that its history keeps (paper: 20)."""

    max_candidates: int = Field(default=20, ge=1)
    """Stars and labels: events of a user in one group at most. Impressions are never cut."""

    groups_per_user: int | None = Field(default=None, ge=1)
    """Most recent groups (or impressions) of a user that are kept; none keeps all."""

    positive_above: float = 3.0
    """Stars: more than this is positive (paper: 3)."""

    negative_below: float = 3.0
    """Stars: fewer than this is negative (paper: 3); what lies between the two is no candidate."""


def collect_ratings(
    reader: RowReader,
    catalogue: Catalogue,
    columns: Sequence[str | None],
    config: JudgementConfig,
    *,
    labels: bool = False,
    users: pl.Series | None = None,
    unknown: Unknown = "drop",
) -> Judgements:
    """Read all rows of an open file and group them; the rule is in :func:`group_ratings`.

    Parameters
    ----------
    columns
        Names of user, item, time (None: rows are in time order) and value.
    labels
        Values are 1 or 0 (true, false, yes, no) instead of stars.
    users
        Keep these users only.

    Raises
    ------
    RowError
        An id is empty, or a time or value cannot be read.
    DataError
        A column is missing, an item is unknown and ``unknown`` is "error", or nothing is left.

    Warns
    -----
    StorerecWarning
        Rows were skipped, or events with unknown items left out.
    """
    user, item, time, value = columns
    flags = {user: "--user-id", item: "--item-id", time: "--timestamp", value: "--label" if labels else "--rating"}
    names = {name: flag for name, flag in flags.items() if name is not None}
    reader.require(names)
    clock, parts, seen = Clock(), [], 0
    for batch in reader.batches(list(names)):
        frame = _checked(reader, batch, columns, clock, labels=labels)
        frame = frame if users is None else frame.filter(pl.col("user").is_in(users.implode()))
        seen += frame.height
        parts.append(frame.with_columns(item=pl.Series(catalogue.rows(frame["item"]).astype(np.int32))))
        if unknown == "error" and (bad := frame.filter(parts[-1]["item"] < 0)).height:
            raise DataError(f"{reader.path}: item '{bad['item'][0]}' is not in the catalogue")
    reader.faults.report()
    events = pl.concat(parts).filter(pl.col("item") >= 0) if parts else pl.DataFrame()
    if not events.height:
        raise DataError(f"{reader.path}: none of {seen} judged events names a known user and an item of the catalogue")
    if events.height < seen:
        text = f"{seen - events.height} of {seen} judged events were left out, because the catalogue lacks their items"
        warnings.warn(f"{reader.path}: {text}", StorerecWarning, stacklevel=3)
    return group_ratings(events, config, source=str(reader.path))


def _checked(
    reader: RowReader, batch: pl.DataFrame, columns: Sequence[str | None], clock: Clock, *, labels: bool
) -> pl.DataFrame:
    """The good rows of a batch as user, item (ids), time and value; bad ones go to the reader's faults."""
    user, item, time, value = columns
    frame = pl.DataFrame(
        {
            "user": batch[str(user)].cast(pl.String).fill_null(""),
            "item": batch[str(item)].cast(pl.String).fill_null(""),
            "time": pl.repeat(0.0, batch.height, eager=True)
            if time is None
            else clock.read(batch[time]).cast(pl.Float64),
            "value": _values(batch[str(value)], labels),
        }
    )
    fault = "neither 1 nor 0 (true, false, yes, no)" if labels else "missing or no number"
    checks = [
        (str(user), "the user id is empty", frame["user"] == ""),
        (str(item), "the item id is empty", frame["item"] == ""),
        (str(time), "the timestamp is missing or neither a number nor a date", frame["time"].is_null()),
        (str(value), f"the value is {fault}", frame["value"].is_null()),
    ]
    return frame.filter(reader.check(batch, checks))


def group_ratings(events: pl.DataFrame, config: JudgementConfig, *, source: str = "events") -> Judgements:
    """Make groups of candidates from users' judged events (ours; the paper says only what is positive).

    A user's events are ordered by (time, row). Of ``n`` events the last ``c = min(max_candidates, n // 2)`` make a
    group, the ``c`` before them another, and so on while one event is left before a group, up to ``groups_per_user``.
    A group's candidates are its events above ``positive_above`` or below ``negative_below``; its history is the last
    ``max_history`` of all events before its first event, whatever their stars. So nothing in a history happened after
    a candidate of its group. Candidates that are in the group's history too (repeated reviews) are left out, and of
    an item judged twice in a group the last judgement counts. Groups without a candidate are left out. The last
    group's id is the user's, the earlier ones have ``#1``, ``#2``, ... after it.

    Parameters
    ----------
    events
        ``user`` String, ``item`` rows of the catalogue, ``time``, ``value`` (stars, or +-infinity for labels); rows in
        any order.

    Raises
    ------
    DataError
        No group has a candidate.
    """
    ids = events["user"].unique(maintain_order=True)
    numbers = pl.DataFrame({"user": ids, "number": np.arange(len(ids))})
    user = events.join(numbers, on="user", how="left", maintain_order="left")["number"].to_numpy()
    order = np.lexsort((events["time"].to_numpy(), user))  # stable: equal times keep the order of the rows
    items, values = events["item"].to_numpy()[order], events["value"].to_numpy()[order]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=len(ids)))])
    owner, number, first, size = _windows(np.diff(offsets), config)
    first = first + offsets[owner]
    history = np.minimum(first - offsets[owner], config.max_history)
    group = np.repeat(np.arange(len(owner)), size)
    place = _ranges(first, size)
    judged = (values[place] > config.positive_above) | (values[place] < config.negative_below)
    past = items[_ranges(first - history, history)]
    kept = judged & ~_in_history(group, items[place], np.repeat(np.arange(len(owner)), history), past)
    kept &= _last_of_each(group, items[place], kept)
    counts = np.bincount(group[kept], minlength=len(owner))
    if not kept.any():
        raise DataError(f"{source}: no user has a judged item with another item before it")
    names = _names(ids[owner], number)
    histories = Histories.from_arrays(names, np.concatenate([[0], np.cumsum(history)]), past)
    candidates = Candidates(histories, np.concatenate([[0], np.cumsum(counts)]), items[place[kept]])
    judgements = Judgements(candidates, values[place[kept]] > config.positive_above, ids[owner].alias("user_id"))
    return judgements.select(counts > 0)


def _values(column: pl.Series, labels: bool) -> pl.Series:
    if not labels:
        return column.cast(pl.Float64, strict=False).fill_nan(None)
    text = column.cast(pl.String).str.strip_chars().str.to_lowercase()
    return text.replace_strict(_LABELS, default=None, return_dtype=pl.Boolean).replace_strict(
        {True: np.inf, False: -np.inf}, default=None, return_dtype=pl.Float64
    )


def _windows(lengths: NDArray[np.int64], config: JudgementConfig) -> tuple[NDArray[np.int64], ...]:
    """Owner, number from the last, first place in the owner's events, and size of each group: (groups,) each."""
    size = np.minimum(config.max_candidates, lengths // 2)
    count = np.where(size > 0, (lengths - 1) // np.maximum(size, 1), 0)
    count = np.minimum(count, config.groups_per_user or count)
    owner = np.repeat(np.arange(len(lengths)), count)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    return owner, number, lengths[owner] - (number + 1) * size[owner], size[owner]


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """All places ``starts[i] .. starts[i] + lengths[i] - 1``, one range after the other."""
    before = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(starts - before, lengths)


def _in_history(
    group: NDArray[np.int64], item: NDArray[np.int32], past_group: NDArray[np.int64], past_item: NDArray[np.int32]
) -> NDArray[np.bool_]:
    width = int(max(item.max(initial=0), past_item.max(initial=0))) + 1
    return np.isin(group * width + item, past_group * width + past_item)


def _last_of_each(group: NDArray[np.int64], item: NDArray[np.int32], kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mask of the last kept place of each (group, item)."""
    keys = (group * (int(item.max(initial=0)) + 1) + item)[kept]
    _, backwards = np.unique(keys[::-1], return_index=True)
    mask = np.zeros(len(kept), bool)
    mask[np.flatnonzero(kept)[len(keys) - 1 - backwards]] = True
    return mask


def _names(users: pl.Series, number: NDArray[np.int64]) -> pl.Series:
    frame = pl.DataFrame({"user": users, "number": number})
    later = pl.concat_str([pl.col("user"), pl.lit("#"), pl.col("number").cast(pl.String)])
    return frame.select(pl.when(pl.col("number") > 0).then(later).otherwise(pl.col("user"))).to_series()
