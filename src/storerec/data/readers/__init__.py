"""Readers of items and histories: plain tables, and the public datasets in their raw form."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories, Unknown
from storerec.data.readers.amazon import read_amazon
from storerec.data.readers.faults import BadRows
from storerec.data.readers.judgements import read_judgement_table, read_judgements
from storerec.data.readers.mind import read_mind
from storerec.data.readers.movielens import movielens_100k, read_atomic, read_movielens
from storerec.data.readers.ratings import JudgementConfig, group_ratings
from storerec.data.readers.tables import read_events, read_items
from storerec.data.readers.yelp import one_file, read_yelp
from storerec.errors import DataError

Dataset = Literal["movielens-100k", "movielens", "mind", "yelp", "amazon"]

__all__ = [
    "Dataset",
    "JudgementConfig",
    "group_ratings",
    "movielens_100k",
    "read_amazon",
    "read_atomic",
    "read_dataset",
    "read_events",
    "read_items",
    "read_judgement_table",
    "read_judgements",
    "read_mind",
    "read_movielens",
    "read_yelp",
]


def read_dataset(
    kind: Dataset, path: Path | str | None = None, *, bad_rows: BadRows = "error", unknown: Unknown = "drop"
) -> tuple[Catalogue, Histories]:
    """Read a public dataset by its name.

    Parameters
    ----------
    kind
        "movielens-100k" is fetched when ``path`` is None; "movielens", "mind", "yelp" and "amazon" are raw
        files that the user has unpacked.
    path
        Their folder. For amazon it holds one ``meta*`` file and one other file, the reviews.
    bad_rows, unknown
        As in :func:`read_events`.

    Raises
    ------
    FetchError
        MovieLens 100K could not be fetched.
    DataError
        The name is unknown, the folder is missing or lacks a file, or a file is bad (RowError).
    """
    if kind not in get_args(Dataset):
        raise DataError(f"unknown dataset '{kind}'; known are {', '.join(get_args(Dataset))}")
    if path is None:
        if kind == "movielens-100k":
            return movielens_100k()
        raise DataError(f"dataset '{kind}' is read from a folder; give its path")
    folder = Path(path)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    if kind == "amazon":
        reviews, metadata = _amazon_files(folder)
        return read_amazon(reviews, metadata, bad_rows=bad_rows, unknown=unknown)
    readers = {"mind": read_mind, "yelp": read_yelp}
    return readers.get(kind, read_movielens)(folder, bad_rows=bad_rows, unknown=unknown)


def _amazon_files(folder: Path) -> tuple[Path, Path]:
    metadata = one_file(folder, "meta*")
    others = [path for path in sorted(folder.iterdir()) if path != metadata and not path.name.startswith(".")]
    if len(others) != 1:
        names = ", ".join(path.name for path in others) or "none"
        raise DataError(f"{folder}: exactly one file of reviews is needed beside {metadata.name}; found {names}")
    return others[0], metadata
