"""The result of comparing systems over seeds: numbers, intervals and tests, ready for JSON, tables and plots."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import Field, PrivateAttr

from storerec.config import Config
from storerec.errors import DataError
from storerec.evaluation.evaluation import SliceResult
from storerec.evaluation.pairing import Difference, Metrics
from storerec.storage import atomic

if TYPE_CHECKING:
    import polars as pl


class Measured(Config):
    """What is known of any system compared, over its seeds."""

    seeds: tuple[int, ...]
    """Seeds it was trained with; one for a system that draws nothing."""

    seed_means: dict[str, tuple[float, ...]]
    """Each seed's own mean by metric, in the order of ``seeds``."""

    seed_std: dict[str, float | None]
    """Standard deviation of these (n - 1); None for one seed."""

    notes: tuple[str, ...] = ()
    """What a reader must know of this system's runs."""

    @property
    def main(self) -> Metrics:
        """The metrics that are tested: of lists those at item level."""
        raise NotImplementedError


class ComparedSystem(Measured):
    """A system that ranks the catalogue. Every interval is over users, of their values averaged over the seeds."""

    item_level: Metrics
    """Metrics by name, by the rank of the target item."""

    tuple_level: Metrics | None = None
    """The same by the rank of the target's code tuple among the list's distinct tuples; None without codes."""

    paper_formula: Metrics
    """``paper_ndcg@K``: what the STORE paper prints as NDCG; no NDCG, for comparison with its tables only."""

    slices: dict[str, SliceResult]
    """Item level by how often the target item occurs in training; "never" are the cold items."""

    lists: dict[str, float | None]
    """``coverage@K`` (share of the catalogue in any list), ``novelty@K`` (bits) and ``long_tail@K`` (share), each
    averaged over the seeds; None where every list is empty."""

    train_seconds: tuple[float | None, ...]
    """Wall clock of training per seed; None where unknown."""

    recommend_seconds: tuple[float | None, ...]
    """Wall clock of ranking for all users per seed; None where unknown."""

    @property
    def main(self) -> Metrics:
        """The metrics at item level."""
        return self.item_level


class Compared(Config):
    """What any comparison says beside its systems."""

    title: str
    """Headline of the report."""

    reference: str | None
    """The system the differences are taken from; None when it gave no result."""

    differences: dict[str, dict[str, Difference]]
    """By other system and metric: reference minus it."""

    failures: dict[str, str]
    """What failed or did not run, with a reason of one line each."""

    paper: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Figures printed elsewhere, by system and metric, to show beside ours."""

    settings: dict[str, Any] = Field(default_factory=dict)
    """What the caller says of budgets, machine and command."""

    notes: tuple[str, ...] = ()
    """What a reader must know of the data and split."""

    seed: int
    """Seed of resampling and tests."""

    confidence: float
    """Level of the intervals."""

    bootstrap_samples: int
    """Resamples behind each interval."""

    flips: int
    """Random sign patterns behind each p-value."""

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values of all fields; :meth:`from_json` reads them back."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_json`; raises ConfigError for missing or wrong entries."""
        return cls.parse({k: v for k, v in values.items() if k != "ranking"}, source="comparison")


@dataclass(frozen=True, eq=False)
class UserRanks:
    """Ranks of each user's target, 0 where it is not in the list; what every number of a comparison rests on.

    Attributes
    ----------
    targets
        (users,) catalogue rows.
    item, tuple
        By (system, seed): (users,) int32 ranks of the target item, and of its code tuple where there are codes.
    """

    targets: np.ndarray
    item: dict[tuple[str, int], np.ndarray]
    tuple: dict[tuple[str, int], np.ndarray]


class Comparison(Compared):
    """Systems that rank the full catalogue, compared on the same users. Read from JSON it has no per-user ranks."""

    systems: dict[str, ComparedSystem]
    """Results by system, in the order given."""

    users: int
    """Users evaluated; one target each."""

    n_items: int
    """Items ranked."""

    ks: tuple[int, ...]
    """Cut-offs."""

    protocol: str
    """How the users' targets were held out."""

    exclude_history: bool
    """Whether items of a user's own history were left out of that user's list."""

    targets_in_history: int
    """Users whose target stands in their own history; they cannot be hit when histories are excluded."""

    _ranks: UserRanks | None = PrivateAttr(None)

    @classmethod
    def with_ranks(cls, ranks: UserRanks, **fields: Any) -> Self:
        """Build with per-user ranks, which :meth:`write_per_user` can then write."""
        out = cls(**fields)
        out._ranks = ranks
        return out

    @property
    def ranks(self) -> UserRanks | None:
        """Ranks per user; None for a comparison read from JSON."""
        return self._ranks

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values of all fields, and ``ranking``, which is always ``"full"``; without per-user ranks."""
        return {"ranking": "full"} | super().to_json()

    def write_per_user(
        self, path: Path, *, user_ids: Iterable[str] | pl.Series, item_ids: Iterable[str] | pl.Series
    ) -> None:
        """Write each user's target and ranks as compact JSON, atomically.

        ``users`` and ``targets`` are ids in the same order; ``item_ranks`` and ``tuple_ranks`` are by system, then
        seed, one number per user in that order: 1 for the best place, 0 for not in the list.

        Parameters
        ----------
        path
            the file.
        user_ids
            ids of the cases' users, in their order.
        item_ids
            ids of the catalogue, by row.

        Raises
        ------
        DataError: the comparison was read from JSON, or the number of ids is another one.
        """
        if self._ranks is None:
            raise DataError(f"{path}: this comparison has no per-user ranks; it was read from JSON")
        users, ids = list(user_ids), list(item_ids)
        if len(users) != self.users or len(ids) != self.n_items:
            raise DataError(
                f"{path}: {len(users)} user ids and {len(ids)} item ids for {self.users} and {self.n_items}"
            )
        value = {
            "ranks": "1 is the best place, 0 not in the list",
            "users": users,
            "targets": [ids[row] for row in self._ranks.targets.tolist()],
            "item_ranks": _nested(self._ranks.item),
            "tuple_ranks": _nested(self._ranks.tuple),
        }
        with atomic(path) as temporary:
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            temporary.write_text(text + "\n", encoding="utf-8")


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Turn settings into what JSON gives back, so that a comparison equals what is read from its own file."""
    out: dict[str, Any] = json.loads(json.dumps(dict(settings), default=str))
    return out


def finite(value: float) -> float | None:
    """None for what JSON cannot hold."""
    return float(value) if math.isfinite(value) else None


def _nested(ranks: Mapping[tuple[str, int], np.ndarray]) -> dict[str, dict[str, list[int]]]:
    out: dict[str, dict[str, list[int]]] = {}
    for (system, seed), row in ranks.items():
        out.setdefault(system, {})[str(seed)] = row.tolist()
    return out
