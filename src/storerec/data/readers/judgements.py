"""Judgements of the public datasets and of users' own tables."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import polars as pl

from storerec.data.catalogue import Catalogue
from storerec.data.fetch import MOVIELENS_100K_EVENTS, registry_file
from storerec.data.histories import Unknown
from storerec.data.judgements import Judgements
from storerec.data.readers.faults import BadRows
from storerec.data.readers.impressions import read_impressions
from storerec.data.readers.movielens import rating_columns
from storerec.data.readers.ratings import JudgementConfig, collect_ratings
from storerec.data.readers.records import Layout
from storerec.data.readers.rows import RowReader
from storerec.data.readers.yelp import one_file
from storerec.errors import DataError

JudgedDataset = Literal["movielens-100k", "movielens", "mind", "yelp"]


def read_judgements(
    kind: JudgedDataset,
    path: Path | str | None,
    catalogue: Catalogue,
    config: JudgementConfig | None = None,
    *,
    users: pl.Series | None = None,
    bad_rows: BadRows = "error",
    unknown: Unknown = "drop",
) -> Judgements:
    """Read what users said of items in a public dataset.

    MIND: one group per impression, see :func:`read_impressions`. Yelp (paper) and MovieLens (ours, the same rule):
    more than 3 stars positive, fewer negative, 3 dropped; groups as in :func:`storerec.data.group_ratings`.

    Parameters
    ----------
    kind
        The dataset; "movielens-100k" is fetched when ``path`` is None.
    path
        Its folder, as for :func:`read_dataset`.
    catalogue
        Gives the items' row numbers; items it lacks are left out.
    config
        Limits and thresholds.
    users
        Keep these users only, for instance those that a preprocessing drew.

    Raises
    ------
    DataError
        The name is unknown, a file is missing or bad (RowError), or nothing is left.
    """
    config = config or JudgementConfig()
    if kind == "mind":
        return read_impressions(_folder(kind, path), catalogue, config, users=users, bad_rows=bad_rows, unknown=unknown)
    columns: tuple[str, ...]
    if kind == "yelp":
        file = one_file(_folder(kind, path), "*review*.json*")
        reader = RowReader(file, Layout("json"), bad_rows=bad_rows)
        columns = ("user_id", "business_id", "date", "stars")
    elif kind in ("movielens", "movielens-100k"):
        fetched = kind == "movielens-100k" and path is None
        where = registry_file(MOVIELENS_100K_EVENTS) if fetched else _folder(kind, path)
        reader, columns = rating_columns(where, bad_rows)
    else:
        raise DataError(f"no judgements are known for dataset '{kind}'; give a table with a rating or label column")
    return collect_ratings(reader, catalogue, columns, config, users=users, unknown=unknown)


def read_judgement_table(
    path: Path | str,
    catalogue: Catalogue,
    config: JudgementConfig | None = None,
    *,
    user_id: str = "user_id",
    item_id: str = "item_id",
    timestamp: str | None = "timestamp",
    rating: str | None = None,
    label: str | None = None,
    encoding: str = "utf-8",
    users: pl.Series | None = None,
    bad_rows: BadRows = "error",
    unknown: Unknown = "drop",
) -> Judgements:
    """Read judged events from a table, one row each.

    Parameters
    ----------
    path
        A .csv, .tsv, .jsonl or .parquet file (text also with .gz).
    rating, label
        Exactly one: a column of stars (thresholds in ``config``), or of 1 and 0 (also true, false, yes, no).

    Other parameters and errors as in :func:`storerec.data.read_events`; groups as in
    :func:`storerec.data.group_ratings`.
    """
    if (rating is None) == (label is None):
        raise DataError("name either the column of ratings or the column of labels")
    reader = RowReader(path, encoding=encoding, bad_rows=bad_rows)
    return collect_ratings(
        reader,
        catalogue,
        (user_id, item_id, timestamp, rating if label is None else label),
        config or JudgementConfig(),
        labels=label is not None,
        users=users,
        unknown=unknown,
    )


def _folder(kind: str, path: Path | str | None) -> Path:
    if path is None:
        raise DataError(f"dataset '{kind}' is read from a folder; give its path")
    if not Path(path).is_dir():
        raise DataError(f"{path}: no such folder")
    return Path(path)
