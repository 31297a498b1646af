"""Judgements from MIND's impressions: what was shown to a user at one time, and what of it was clicked."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import polars as pl

from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories, Unknown
from storerec.data.judgements import Candidates, Judgements
from storerec.data.readers.faults import BadRows
from storerec.data.readers.mind import behaviors
from storerec.data.readers.ratings import JudgementConfig
from storerec.data.readers.rows import RECORD, RowReader
from storerec.errors import DataError, StorerecWarning


def read_impressions(
    folder: Path | str,
    catalogue: Catalogue,
    config: JudgementConfig,
    *,
    users: pl.Series | None = None,
    bad_rows: BadRows = "error",
    unknown: Unknown = "drop",
) -> Judgements:
    """Read ``behaviors.tsv`` of one unpacked MIND folder: one group per row (paper, 4.4).

    Candidates are the row's impressions (``N1-1 N2-0``: clicked, not clicked), the history is the last
    ``max_history`` items of the row's history column, which ends before the impression. A group's id is its
    impression id. Rows without a known item in their history are left out, as in the recommendation task. With
    ``groups_per_user`` a user's last rows of the file are kept.

    Raises
    ------
    RowError
        A row has a wrong number of fields, no ids, or an impression without -0 or -1.
    DataError
        The file is missing or empty, an impression id occurs twice, an item is unknown and ``unknown`` is
        "error", or nothing is left.

    Warns
    -----
    StorerecWarning
        Rows were skipped, or candidates the catalogue lacks were left out.
    """
    reader = behaviors(Path(folder), bad_rows)
    parts, dropped = [], 0
    for batch in reader.batches(["impression", "user_id", "history", "impressions"]):
        shown = batch["impressions"].fill_null("").str.strip_chars()
        checks = [
            ("impression", "the impression id is empty", batch["impression"] == ""),
            ("user_id", "the user id is empty", batch["user_id"] == ""),
            ("impressions", "not like 'N1-1 N2-0' (MIND's test part has no clicks)", ~shown.str.contains(_SHOWN)),
        ]
        rows = batch.filter(reader.check(batch, checks))
        rows = rows if users is None else rows.filter(pl.col("user_id").is_in(users.implode()))
        part, lost = _encode(rows, catalogue, config, unknown, reader)
        parts.append(part)
        dropped += lost
    reader.faults.report()
    return _gather(parts, dropped, config, reader)


_SHOWN = r"^\S+-[01]( +\S+-[01])*$"


def _encode(
    rows: pl.DataFrame, catalogue: Catalogue, config: JudgementConfig, unknown: Unknown, reader: RowReader
) -> tuple[pl.DataFrame, int]:
    """Texts of one batch as lists of catalogue rows; and how many candidates the catalogue lacks."""
    frame = rows.select(
        pl.col("impression"),
        pl.col("user_id"),
        pl.col("history").fill_null("").str.extract_all(r"\S+"),
        pl.col("impressions").str.extract_all(r"\S+"),
        pl.col(RECORD).alias("row"),
    )
    past = _known(frame.select("row", id=pl.col("history")), catalogue).drop("id")
    past = past.group_by("row", maintain_order=True).agg(history=pl.col("item").tail(config.max_history))
    one = pl.element().str
    ids, clicked = one.slice(0, one.len_chars() - 2), one.ends_with("-1")
    shown = frame.select("row", id=pl.col("impressions").list.eval(ids), label=pl.col("impressions").list.eval(clicked))
    known = _known(shown, catalogue, "label")
    lost = int(shown["id"].list.len().sum()) - known.height
    if lost and unknown == "error":
        raise DataError(f"{reader.path}: {lost} candidates so far are not in the catalogue")
    known = known.group_by("row", maintain_order=True).agg(items=pl.col("item"), labels=pl.col("label"))
    whole = frame.select("row", "impression", "user_id").join(past, on="row").join(known, on="row")
    return whole.sort("row"), lost


def _known(frame: pl.DataFrame, catalogue: Catalogue, *more: str) -> pl.DataFrame:
    """One line per known id of the lists in ``id``, with its catalogue row as ``item``."""
    flat = frame.explode("id", *more).drop_nulls("id")
    return flat.with_columns(item=pl.Series(catalogue.rows(flat["id"]).astype(np.int32))).filter(pl.col("item") >= 0)


def _gather(parts: list[pl.DataFrame], dropped: int, config: JudgementConfig, reader: RowReader) -> Judgements:
    frame = pl.concat(parts) if parts else pl.DataFrame()
    if not frame.height:
        raise DataError(f"{reader.path}: no impression of a user with a history shows an item of the catalogue")
    again = frame["impression"].is_duplicated()
    if again.any():
        raise DataError(f"{reader.path}: impression id '{frame['impression'].filter(again)[0]}' occurs twice")
    if dropped:
        warnings.warn(
            f"{reader.path}: {dropped} candidates were left out, because the catalogue lacks their items",
            StorerecWarning,
            stacklevel=4,
        )
    if config.groups_per_user is not None:
        latest = pl.int_range(pl.len(), 0, -1).over("user_id") <= config.groups_per_user
        frame = frame.filter(latest)
    histories = Histories.from_arrays(frame["impression"], _ends(frame["history"]), _flat(frame["history"]))
    candidates = Candidates(histories, _ends(frame["items"]), _flat(frame["items"]))
    return Judgements(candidates, frame["labels"].explode().to_numpy().astype(bool), frame["user_id"])


def _ends(lists: pl.Series) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lists.list.len().to_numpy())]).astype(np.int64)


def _flat(lists: pl.Series) -> np.ndarray:
    return lists.explode().to_numpy()
