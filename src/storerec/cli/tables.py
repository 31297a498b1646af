"""What ``storerec fit`` reads: items and events, as the flags say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from storerec.cli.output import show, table
from storerec.errors import ConfigError

if TYPE_CHECKING:
    from storerec.data import Catalogue, DatasetStats, Histories


@dataclass(frozen=True)
class Tables:
    """The flags of ``storerec fit`` that say where items and events are and how to read them.

    ``paper_seed`` is the seed of the paper's preprocessing, for the datasets and presets that have one.
    """

    items: str | None
    events: str | None
    data: str | None
    item_id: str
    user_id: str
    timestamp: str | None
    text: list[str] | None
    title: str | None
    sequences: str | None
    encoding: str
    bad_rows: Literal["error", "skip"]
    unknown: Literal["drop", "error"]
    paper_seed: int | None = None

    def read(self, read_events: Callable[..., Histories]) -> tuple[Catalogue, Histories]:
        """Read what the flags name; ``read_events`` is how the engine reads events.

        Raises
        ------
        ConfigError
            The flags do not fit together.
        DataError
            A file is not usable.
        """
        if self.data is not None:
            return self._read_dataset(self.data)
        if self.items is None or self.events is None:
            raise ConfigError("fit needs --items PLACE and --events PLACE, or --data KIND:FOLDER")
        from storerec.data import read_items

        catalogue = read_items(
            self.items,
            item_id=self.item_id,
            text=self.text or None,
            title=self.title,
            encoding=self.encoding,
            bad_rows=self.bad_rows,
        )
        histories = read_events(
            self.events,
            catalogue,
            user_id=self.user_id,
            item_id=self.item_id,
            timestamp=self.timestamp,
            items=self.sequences,
            encoding=self.encoding,
            bad_rows=self.bad_rows,
            unknown=self.unknown,
        )
        return catalogue, histories

    def _read_dataset(self, data: str) -> tuple[Catalogue, Histories]:
        if self.items is not None or self.events is not None:
            raise ConfigError("--data brings items and events itself; leave --items and --events out")
        if flags := self._of_tables():
            raise ConfigError(f"--data knows its own columns and encoding; leave {', '.join(flags)} out")
        from storerec.data import MIND_PAPER, MIND_TABLE1, YELP_PAPER, YELP_TABLE1, preprocess_dataset
        from storerec.data.readers import Dataset, read_dataset

        kind, _, folder = data.partition(":")
        path = Path(folder) if folder else None
        catalogue, histories = read_dataset(cast(Dataset, kind), path, bad_rows=self.bad_rows, unknown=self.unknown)
        papers = {"mind": (MIND_PAPER, MIND_TABLE1), "yelp": (YELP_PAPER, YELP_TABLE1)}
        if self.paper_seed is None or kind not in papers:
            return catalogue, histories
        settings, printed = papers[kind]
        small = preprocess_dataset(catalogue, histories, settings, seed=self.paper_seed)
        _show_stats(kind, small.stats, printed)
        return small.catalogue, small.histories

    def _of_tables(self) -> list[str]:
        """Flags given that say how to read tables."""
        given = {
            "--item-id": self.item_id != "item_id",
            "--user-id": self.user_id != "user_id",
            "--in-order": self.timestamp is None,
            "--timestamp": self.timestamp not in (None, "timestamp"),
            "--text": bool(self.text),
            "--title": self.title is not None,
            "--sequences": self.sequences is not None,
            "--encoding": self.encoding != "utf-8",
        }
        return [flag for flag, there in given.items() if there]


def _show_stats(kind: str, here: DatasetStats, paper: DatasetStats) -> None:
    """What the paper's preprocessing gave, beside the paper's Table 1."""
    made = table(f"{kind} as the paper prepares it", "", "Here", "Paper", right=("Here", "Paper"))
    for name, value in here.to_json().items():
        other = paper.to_json()[name]
        made.add_row(
            name.replace("_", " "), *(f"{v:,.2f}" if isinstance(v, float) else f"{v:,}" for v in (value, other))
        )
    show(made)
