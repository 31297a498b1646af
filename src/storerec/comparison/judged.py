"""Judgements of a comparison: found, divided by users, held against leaks, and kept for the processes that score."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, cast

import numpy as np
import polars as pl
from safetensors.numpy import load_file

from storerec.comparison.datasets import TABLES, ComparisonData
from storerec.comparison.scoring_config import ScoringConfig
from storerec.data import Judgements, JudgementSplit, JudgementSplitConfig, read_judgement_table, read_judgements
from storerec.data.histories import Histories
from storerec.data.judgement_splits import split_judgements
from storerec.data.judgements import Candidates
from storerec.data.readers.judgements import JudgedDataset
from storerec.data.readers.rows import RowReader
from storerec.data.splits import Split
from storerec.errors import DataError, StorerecWarning
from storerec.storage import atomic, save_arrays, write_json

_PUBLIC = ("movielens-100k", "movielens", "mind", "yelp")
_VALUES = ("label", "rating")


def has_judgements(data: ComparisonData) -> bool:
    """Whether the data says what users thought of items: MIND, Yelp, MovieLens, or own tables with a column ``rating``
    or ``label`` (``judgements.*``, else ``events.*``).
    """
    return data.kind in _PUBLIC or (data.kind is None and _own_table(data.folder) is not None)


def find_judgements(data: ComparisonData, config: ScoringConfig) -> tuple[Judgements, tuple[str, ...]]:
    """Read the judgements that belong to ``data``, of its users alone, with notes on what was left out.

    Raises
    ------
    DataError: there are none, or a file is bad.
    """
    users, rule = data.histories.user_ids, config.judgements
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", StorerecWarning)
        if data.kind in _PUBLIC:
            found = read_judgements(cast(JudgedDataset, data.kind), data.folder, data.catalogue, rule, users=users)
        elif data.kind is None and (table := _own_table(data.folder)) is not None:
            path, value, time = table
            label, rating = (value, None) if value == "label" else (None, value)
            found = read_judgement_table(
                path, data.catalogue, rule, timestamp=time, label=label, rating=rating, users=users
            )
        else:
            raise DataError(
                f"{data.name} has no judgements to score: give a table judgements.* or events.* with a column "
                "rating or label, or choose systems without scorers"
            )
    notes = tuple(str(w.message) for w in said if issubclass(w.category, StorerecWarning))
    return found, notes


def _own_table(folder: Path | None) -> tuple[Path, str, str | None] | None:
    """The table with a column of judgements, that column, and the column of times where there is one."""
    for stem in ("judgements", "events"):
        for ending in TABLES:
            if folder is None or not (path := folder / f"{stem}.{ending}").is_file():
                continue
            names = RowReader(path).names
            value = next((name for name in _VALUES if name in names), None)
            if value is not None:
                return path, value, "timestamp" if "timestamp" in names else None
    return None


def divide(judgements: Judgements, base: Split, config: ScoringConfig, seed: int) -> JudgementSplit:
    """Divide judgements as ``base`` divides users, and draw what is scored of validation and test.

    Raises
    ------
    DataError: none of the test users has judgements.
    """
    parts = split_judgements(judgements, JudgementSplitConfig(), seed, like=base)
    notes = [
        f"test candidates are those of {_users(parts.test)} users, none of whom is in any training: scorers learn from "
        f"{len(parts.train)} groups of {_users(parts.train)} other users and stop by {_users(parts.validation)} more, "
        "and the recommenders below them are trained on those users alone"
    ]
    drawn = {}
    for name, most in (("validation", config.validation_groups), ("test", config.test_groups)):
        part: Judgements = getattr(parts, name)
        both = part.drop_one_sided()  # the others are measured by nothing, so there is no use in drawing them
        drawn[name] = part
        if most is not None and len(both) > most:
            drawn[name] = both.select(np.sort(np.random.default_rng([seed, 5]).permutation(len(both))[:most]))
            notes.append(
                f"{most} of {len(both)} {name} groups with both kinds of candidates were drawn by seed, the same for "
                "every scorer"
            )
    if len(drawn["test"]) > _users(drawn["test"]):
        notes.append("some test users have several groups, which intervals and tests take as independent")
    return replace(parts, **drawn, notes=(*parts.notes, *notes))


def _users(part: Judgements) -> int:
    return part.user_ids.n_unique()


def check_judgements(parts: JudgementSplit, base: Split, *, shown_again: bool) -> tuple[str, ...]:
    """Check that no test user is in any training and no candidate in its group's history; returns notes.

    Parameters
    ----------
    parts: judgements as divided.
    base: the split the recommenders below the scorers are trained on.
    shown_again: candidates may be items of the history, shown again at another time (impressions); they are counted.

    Raises
    ------
    DataError: a leak, with the user or group.
    """
    test = parts.test.user_ids
    others = {
        "training judgements": parts.train.user_ids,
        "validation judgements": parts.validation.user_ids,
        "training histories": base.train.user_ids,
        "validation histories": base.validation.histories.user_ids,
    }
    for where, users in others.items():
        if (both := test.is_in(users.implode())).any():
            raise DataError(
                f"test user '{test.filter(both)[0]}' is among the {where} too: scores would be of known users"
            )
    notes = []
    for name in ("train", "validation", "test"):
        candidates: Candidates = getattr(parts, name).candidates
        again = _in_history(candidates)
        if again.any() and not shown_again:
            group = int(candidates.groups[np.argmax(again)])
            raise DataError(
                f"{name} group '{candidates.histories.user_ids[group]}': candidate row "
                f"{int(candidates.items[np.argmax(again)])} is in the group's own history"
            )
        if again.any() and name == "test":
            notes.append(f"{int(again.sum())} test candidates are items of the history, shown again at a later time")
    return tuple(notes)


def _in_history(candidates: Candidates) -> np.ndarray:
    """(n,) bool: candidates whose item is in their group's history."""
    histories = candidates.histories
    width = int(max(candidates.items.max(initial=0), histories.items.max(initial=0))) + 1
    past = np.repeat(np.arange(len(histories)), histories.lengths) * width + histories.items
    return np.isin(candidates.groups * width + candidates.items, past)


@dataclass(frozen=True, eq=False)
class Judged:
    """What a process that scores may read: judgements to learn from, and test candidates without their labels.

    Attributes
    ----------
    train, validation: with labels.
    test: candidates alone; their labels are in a file that only the measuring reads.
    digest: fingerprint of all of these.
    """

    train: Judgements
    validation: Judgements
    test: Candidates
    digest: str

    @classmethod
    def save(cls, parts: JudgementSplit, folder: Path) -> Self:
        """Write all parts into ``folder``, each file whole or not at all, ``judged.json`` last."""
        (folder / "judged.json").unlink(missing_ok=True)
        digest = _fingerprint(parts)
        for name in ("train", "validation", "test"):
            part: Judgements = getattr(parts, name)
            ids = {"group": part.candidates.histories.user_ids, "user": part.user_ids.alias("user")}
            with atomic(folder / f"{name}.parquet") as temporary:
                pl.DataFrame(ids).write_parquet(temporary)
            save_arrays(folder / f"{name}.safetensors", _arrays(part.candidates))
            save_arrays(folder / f"{name}-labels.safetensors", {"labels": part.labels})
        write_json(folder / "judged.json", {"digest": digest})
        return cls(parts.train, parts.validation, parts.test.candidates, digest)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote, the test labels aside."""
        if not (folder / "judged.json").is_file():
            raise DataError(f"{folder} holds no judgements; run `storerec compare` with scorers again")
        digest = json.loads((folder / "judged.json").read_text(encoding="utf-8"))["digest"]
        return cls(_judged(folder, "train"), _judged(folder, "validation"), _read(folder, "test")[0], digest)

    @property
    def learning(self) -> JudgementSplit:
        """The parts that a scorer learns from, with an empty test part."""
        return JudgementSplit(self.train, self.validation, self.train.select(np.zeros(0, np.int64)))


def _arrays(candidates: Candidates) -> dict[str, np.ndarray]:
    histories = candidates.histories
    return {
        "history_offsets": histories.offsets,
        "history_items": histories.items,
        "offsets": candidates.offsets,
        "items": candidates.items,
    }


def _read(folder: Path, name: str) -> tuple[Candidates, pl.Series]:
    """Candidates and the user of each group."""
    ids, arrays = pl.read_parquet(folder / f"{name}.parquet"), load_file(folder / f"{name}.safetensors")
    histories = Histories(ids["group"], arrays["history_offsets"], arrays["history_items"])
    return Candidates(histories, arrays["offsets"], arrays["items"]), ids["user"]


def _judged(folder: Path, name: str) -> Judgements:
    candidates, users = _read(folder, name)
    return Judgements(candidates, load_file(folder / f"{name}-labels.safetensors")["labels"], users)


def _fingerprint(parts: JudgementSplit) -> str:
    """Hash of what processes that score read: test labels are no part of it."""
    digest = hashlib.sha256()
    for part in (parts.train, parts.validation, parts.test):
        for ids in (part.candidates.histories.user_ids, part.user_ids):
            digest.update("\0".join(ids.to_list()).encode() + b"\1")
        for array in _arrays(part.candidates).values():
            digest.update(array.astype("<i8").tobytes() + b"\1")
    for part in (parts.train, parts.validation):
        digest.update(np.packbits(part.labels).tobytes() + b"\1")
    return digest.hexdigest()
