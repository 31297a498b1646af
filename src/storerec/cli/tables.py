"""What ``storerec fit`` reads: items and events, as the flags say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from storerec.errors import ConfigError

if TYPE_CHECKING:
    from storerec.data import Catalogue, Histories


@dataclass(frozen=True)
class Tables:
    """The flags of ``storerec fit`` that say where items and events are and how to read them."""

    items: Path | None
    events: Path | None
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

    def read(self) -> tuple[Catalogue, Histories]:
        """Read what the flags name.

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
            raise ConfigError("fit needs --items FILE and --events FILE, or --data KIND:FOLDER")
        from storerec.data import read_events, read_items

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
        from storerec.data.readers import Dataset, read_dataset

        kind, _, folder = data.partition(":")
        path = Path(folder) if folder else None
        return read_dataset(cast(Dataset, kind), path, bad_rows=self.bad_rows, unknown=self.unknown)
