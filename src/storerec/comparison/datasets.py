"""Data of a comparison by name: public datasets in their raw form, or a folder of one's own tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from storerec.comparison.config import PRESETS
from storerec.data import MIND_PAPER, MIND_TABLE1, YELP_PAPER, YELP_TABLE1, preprocess_dataset, read_events, read_items
from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.data.preprocess import DatasetStats
from storerec.data.readers import read_dataset
from storerec.errors import DataError

WHERE = {
    "mind": "MIND (the Microsoft News Dataset) is to be had at https://msnews.github.io after agreeing to its licence: "
    "unpack MINDlarge_train.zip and give its folder, as --data mind:FOLDER",
    "yelp": "the Yelp Open Dataset is to be had at https://business.yelp.com/data/resources/open-dataset/ after "
    "agreeing to its terms: unpack it and give the folder with the business and review files, as --data yelp:FOLDER",
    "amazon": "Amazon reviews are to be had at https://amazon-reviews-2023.github.io or, for 2014, at "
    "https://jmcauley.ucsd.edu/data/amazon: put a category's reviews and its meta file into a folder, and give it "
    "as --data amazon:FOLDER",
    "movielens": "MovieLens is to be had at https://grouplens.org/datasets/movielens: unpack it and give its folder, "
    "as --data movielens:FOLDER",
}
"""Where the files of datasets are that cannot be fetched by a program."""

TABLES = ("csv", "tsv", "jsonl", "parquet")
"""Endings of own tables."""


@dataclass(frozen=True)
class ComparisonData:
    """Items, histories, and what is to be said of them.

    Attributes
    ----------
    name: of the dataset, or of the folder.
    preset: settings that suit it.
    notes: for the report; counts against the paper's Table 1 among them.
    kind: the public dataset it is, for its judgements; None for own tables.
    folder: where its files are; None where they are fetched.
    """

    name: str
    preset: str
    catalogue: Catalogue
    histories: Histories
    notes: tuple[str, ...]
    kind: str | None
    folder: Path | None


def load_data(name: str, *, seed: int = 0) -> ComparisonData:
    """Read ``movielens-100k``, ``mind:FOLDER``, ``yelp:FOLDER``, ``amazon:FOLDER``, ``movielens:FOLDER``, or a folder
    of tables ``items.*`` and ``events.*`` (csv, tsv, jsonl or parquet; columns item_id, user_id, timestamp).

    MIND and Yelp are reduced as in the paper (``seed`` draws the users), and their counts set beside its Table 1.

    Raises
    ------
    DataError: the folder or a file is missing (the message says where to get a public dataset), or a file is bad.
    FetchError: MovieLens-100K could not be fetched.
    """
    kind, _, place = name.partition(":")
    if kind == "movielens-100k" and not place:
        catalogue, histories = read_dataset("movielens-100k")
        return ComparisonData(kind, kind, catalogue, histories, (), kind, None)
    if kind in WHERE:
        folder = Path(place)
        if not place or not folder.is_dir():
            raise DataError(f"{place + ': no such folder; ' if place else ''}{WHERE[kind]}")
        return _public(kind, folder, seed)
    return _own(Path(name))


def _public(kind: str, folder: Path, seed: int) -> ComparisonData:
    catalogue, histories = read_dataset(kind, folder)  # type: ignore[arg-type]
    notes: tuple[str, ...] = ()
    papers = {"mind": (MIND_PAPER, MIND_TABLE1), "yelp": (YELP_PAPER, YELP_TABLE1)}
    if kind in papers:
        settings, printed = papers[kind]
        small = preprocess_dataset(catalogue, histories, settings, seed=seed)
        catalogue, histories = small.catalogue, small.histories
        notes = (table1_note(small.stats, printed),)
    preset = kind if kind in PRESETS else "cpu"
    return ComparisonData(kind, preset, catalogue, histories, notes, kind, folder)


def table1_note(here: DatasetStats, paper: DatasetStats) -> str:
    """Our counts beside the paper's Table 1, and whether they agree to 1%."""
    rows, same = [], True
    for name, value in here.to_json().items():
        printed = paper.to_json()[name]
        same &= abs(value - printed) <= 0.01 * printed
        rows.append(f"{name.replace('_', ' ')} {value:,.6g} (paper {printed:,.6g})")
    verdict = "agree within 1%" if same else "DIFFER: this is not the paper's sample, so its figures do not compare"
    return f"counts against the paper's Table 1 {verdict}: {'; '.join(rows)}"


def _own(folder: Path) -> ComparisonData:
    if not folder.is_dir():
        known = ", ".join(["movielens-100k", *(f"{kind}:FOLDER" for kind in WHERE)])
        raise DataError(f"{folder}: no such folder, and no dataset by that name; known are {known}")
    catalogue = read_items(_table(folder, "items"))
    histories = read_events(_table(folder, "events"), catalogue)
    return ComparisonData(folder.resolve().name, "cpu", catalogue, histories, (), None, folder)


def _table(folder: Path, stem: str) -> Path:
    found = [folder / f"{stem}.{ending}" for ending in TABLES if (folder / f"{stem}.{ending}").is_file()]
    if len(found) != 1:
        wanted = ", ".join(f"{stem}.{ending}" for ending in TABLES)
        there = ", ".join(path.name for path in found) or "none"
        raise DataError(f"{folder}: exactly one of {wanted} is needed; found {there}")
    return found[0]
