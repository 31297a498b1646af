"""What changed since a bundle was written: items added, texts changed, items removed; safe from kill and power cut."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from storerec.bundle.manifest import Manifest
from storerec.errors import BundleError

Kind = Literal["add", "update", "remove", "restore"]

_WAIT_SECONDS = 60.0
"""Longest wait for another process that is adding items to the same bundle."""

_TABLES = """
CREATE TABLE IF NOT EXISTS changes (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL CHECK (kind IN ('add', 'update', 'remove', 'restore')),
    item_id TEXT NOT NULL,
    text TEXT,
    codes TEXT,
    distances TEXT,
    training TEXT NOT NULL
)
"""


@dataclass(frozen=True)
class Change:
    """One change to one item.

    Attributes
    ----------
    kind: what happened to it.
    item_id: of which item.
    text: its attributes by name, for ``add`` and ``update``; None where an item that is there already was given codes
        of another training.
    codes: those it was given, for ``add``; ``distances``, those of its dense tokens to their centres, squared.
    training: identity of the training whose codes these are.
    number: its place in the journal, 1-based; 0 where it is in none yet.
    """

    kind: Kind
    item_id: str
    text: dict[str, str] | None = None
    codes: tuple[int, ...] | None = None
    distances: tuple[float, ...] | None = None
    training: str = ""
    number: int = 0


class ChangeLog(Protocol):
    """Changes in one order, read and written by several: a :class:`Journal`, or what asks the process that has it."""

    def since(self, number: int = 0) -> list[Change]:
        """Changes after that ``number``, in order."""

    def version(self) -> int:
        """A number that is another one after another has written."""

    def write(self, changes: Sequence[Change], *, after: int) -> int | None:
        """Write changes to disk, all or none: the last one's number; None where others wrote after ``after``."""

    def turn(self, work: str) -> AbstractContextManager[None]:
        """Keep others from the same work for the length of a block. It saves work; nothing's truth hangs on it."""

    def close(self) -> None:
        """Let go of it."""


class Journal:
    """Changes in a SQLite file beside a bundle: ``BUNDLE.changes.sqlite``, which in a run folder lies in that.

    It is no part of the bundle, so that a bundle trained anew takes the place of the old one and the changes stay.
    What :meth:`append` has returned from is on disk. Several processes may use one journal at a time.
    """

    def __init__(self, path: Path, bundle: Path | None = None) -> None:
        self.path, self._bundle = path, bundle
        self._connection: sqlite3.Connection | None = None

    @classmethod
    def beside(cls, bundle: Path) -> Journal:
        """That of a bundle folder; the file is made when something is first written."""
        bundle = bundle.resolve()
        return cls(bundle.with_name(f"{bundle.name}.changes.sqlite"), bundle)

    def since(self, number: int = 0, most: int = -1) -> list[Change]:
        """Changes after that ``number``, in order; ``most`` of them, if it is not negative.

        Raises
        ------
        BundleError: the file is none of ours, or damaged.
        """
        if self._connection is None and not self.path.exists():
            return []
        columns = "kind, item_id, text, codes, distances, training, number"
        query = f"SELECT {columns} FROM changes WHERE number > ? ORDER BY number LIMIT ?"
        with self._told():
            rows = self._opened().execute(query, (number, most)).fetchall()
            return [
                Change(kind, item, text and json.loads(text), _numbers(codes), _numbers(distances), training, place)
                for kind, item, text, codes, distances, training, place in rows
            ]

    def version(self) -> int:
        """A number that is another one after another process has written; read in microseconds."""
        if self._connection is None and not self.path.exists():
            return 0
        with self._told():
            return int(self._opened().execute("PRAGMA data_version").fetchone()[0])

    def last(self) -> int:
        """Number of the last change, by whatever process; 0 where there is none."""
        if self._connection is None and not self.path.exists():
            return 0
        with self._told():
            return int(self._opened().execute("SELECT coalesce(max(number), 0) FROM changes").fetchone()[0])

    def write(self, changes: Sequence[Change], *, after: int) -> int | None:
        """Write changes to disk, all or none, unless others have written after number ``after``.

        A text changed under a training whose bundle was replaced since is written down as changed under the one that
        lies there now: it is newer than what that was trained on. So is the text of an item that was added; whoever
        has the new bundle may know the item, and may have removed it.

        Returns
        -------
        The last one's number, ``after`` where there are no changes; None where others have written, and nothing was.
        """
        with self.alone():
            if self.last() > after:
                return None
            return self.append(self._of_today(changes)) if changes else after

    def turn(self, work: str) -> AbstractContextManager[None]:
        """Nobody is kept waiting: processes on one machine that open a bundle at the same time are few."""
        return nullcontext()

    def _of_today(self, changes: Sequence[Change]) -> Sequence[Change]:
        if self._bundle is None or all(one.text is None for one in changes):
            return changes
        try:
            training = Manifest.read(self._bundle).training
        except BundleError:  # for a moment there is none while another one takes its place
            return changes
        late = [
            one.item_id for one in changes if one.kind == "add" and one.text is not None and one.training != training
        ]
        # an attribute that was not named is empty in a new item, and need not be in the one that is there
        texts = {one.item_id: {k: v for k, v in one.text.items() if v} for one in changes if one.text is not None}
        return [
            *(replace(one, training=training) if one.kind == "update" else one for one in changes),
            *(Change("update", item, texts[item], training=training) for item in late),
            *(Change("restore", item, training=training) for item in late),
        ]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other writers out for the length of a block; what the block appends is kept together or not at all.

        A block within another one is part of that.
        """
        with self._told():
            connection = self._opened()
            if connection.in_transaction:
                yield
                return
            connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if connection.in_transaction:  # a full disk ends it by itself
                connection.execute("ROLLBACK")
            raise
        with self._told():
            connection.execute("COMMIT")

    def append(self, changes: Sequence[Change]) -> int:
        """Write changes, within :meth:`alone`, whose end brings them to disk; gives the last one's number in it."""
        rows = [
            (
                one.kind,
                one.item_id,
                None if one.text is None else json.dumps(one.text, ensure_ascii=False),
                None if one.codes is None else json.dumps(one.codes),
                None if one.distances is None else json.dumps(one.distances),
                one.training,
            )
            for one in changes
        ]
        query = "INSERT INTO changes (kind, item_id, text, codes, distances, training) VALUES (?, ?, ?, ?, ?, ?)"
        with self._told():
            connection = self._opened()
            connection.executemany(query, rows)
        return self.last()

    def close(self) -> None:
        """Close the file; it is opened again where it is needed."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            # its user sees to it that one thread at a time calls
            connection = sqlite3.connect(
                self.path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")  # a change answered is on disk, not in a buffer
                connection.execute(_TABLES)
            except sqlite3.Error:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise BundleError(f"{self.path}: cannot be read or written ({error})") from None
        except (sqlite3.DatabaseError, json.JSONDecodeError) as error:
            raise BundleError(
                f"{self.path}: no journal of changes, or a damaged one ({error}); move it away to go on without it"
            ) from None


def _numbers(text: str | None) -> tuple[Any, ...] | None:
    return None if text is None else tuple(json.loads(text))
