"""The result of an evaluation: numbers with intervals, ready for JSON, tables and plots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from storerec.config import Config
from storerec.errors import DataError
from storerec.evaluation.bootstrap import Interval

if TYPE_CHECKING:
    from rich.table import Table

Metrics = dict[str, Interval]


class SliceResult(Config):
    """One system's item-level metrics within one slice of the users."""

    n: int
    """Users in the slice."""

    item: Metrics | None = None
    """Metrics by name; None when the slice is empty."""


class SystemResult(Config):
    """What was measured of one system."""

    item_level: Metrics
    """Metrics by name, by the rank of the target item."""

    tuple_level: Metrics | None = None
    """The same by the rank of the target's tuple among the list's distinct tuples; None without a table."""

    slices: dict[str, SliceResult]
    """By how often the target item occurs in training."""

    coverage: dict[str, float]
    """``coverage@K``: share of the catalogue that stands in any user's first K."""

    seconds: float
    """Wall clock of recommending, all users together."""

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values: ``item``, ``tuple`` (if there), ``slices``, ``coverage@K``..., ``seconds``."""
        out: dict[str, Any] = {"item": _dump(self.item_level)}
        if self.tuple_level is not None:
            out["tuple"] = _dump(self.tuple_level)
        out["slices"] = {name: part.model_dump(exclude_none=True) for name, part in self.slices.items()}
        return out | self.coverage | {"seconds": self.seconds}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Inverse of :meth:`to_json`."""
        return cls.parse(
            {
                "item_level": values.get("item"),
                "tuple_level": values.get("tuple"),
                "slices": values.get("slices"),
                "coverage": {name: v for name, v in values.items() if name.startswith("coverage@")},
                "seconds": values.get("seconds"),
            },
            source="evaluation",
        )


class Evaluation(Config):
    """Systems compared on the same users. Rankings are over the full catalogue, never over samples."""

    systems: dict[str, SystemResult]
    """Results by system name, in the order given."""

    reference: str
    """The system the differences are taken from: ``store`` where it is there, else the first."""

    differences: dict[str, Metrics]
    """By other system: item-level metrics of the reference minus its own, with paired intervals."""

    users: int
    """Users evaluated; one target each."""

    n_items: int
    """Items ranked."""

    ks: tuple[int, ...]
    """Cut-offs."""

    seed: int
    """Seed of the bootstrap."""

    protocol: str | None
    """How the users' targets were held out, if the caller said."""

    notes: tuple[str, ...] = ()
    """What a reader must know of the split: users that could not serve as cases."""

    exclude_history: bool
    """Whether items of a user's own history were left out of that user's list."""

    targets_in_history: int
    """Users whose target stands in their own history; they cannot be hit when histories are excluded."""

    confidence: float
    """Level of the intervals."""

    bootstrap_samples: int
    """Resamples behind each interval."""

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values; :meth:`from_json` reads them back.

        ``systems`` by name as :meth:`SystemResult.to_json`; every metric is ``{"value", "low", "high"}``; the
        other entries are this class's fields, and ``ranking`` is always ``"full"``.
        """
        out = self.model_dump(mode="json", exclude={"systems"})
        systems = {name: result.to_json() for name, result in self.systems.items()}
        return {"systems": systems, "ranking": "full"} | out

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Inverse of :meth:`to_json`; raises ConfigError for missing or wrong entries."""
        rest = {name: v for name, v in values.items() if name not in ("systems", "ranking")}
        systems = {name: SystemResult.from_json(v) for name, v in values.get("systems", {}).items()}
        return cls.parse({"systems": systems, **rest}, source="evaluation")

    def system(self, name: str) -> SystemResult:
        """One system's result; raises :class:`DataError` for a name that was not evaluated."""
        if name not in self.systems:
            raise DataError(f"no system '{name}' in this evaluation; it has {', '.join(self.systems)}")
        return self.systems[name]

    def table(self) -> Table:
        """The main metrics with their intervals as a rich table."""
        from storerec.evaluation.report import metric_table

        return metric_table(self)

    def tables(self) -> tuple[Table, ...]:
        """All tables: main metrics, slices, and differences where several systems were compared."""
        from storerec.evaluation.report import difference_table, metric_table, slice_table

        last = (difference_table(self),) if self.differences else ()
        return (metric_table(self), slice_table(self), *last)


def _dump(metrics: Metrics) -> dict[str, dict[str, float]]:
    return {name: interval.model_dump() for name, interval in metrics.items()}
