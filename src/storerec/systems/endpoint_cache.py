"""Answers of an endpoint on disk, so that no question is paid for twice."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from storerec.errors import ConfigError
from storerec.systems.endpoint_answer import Answer

_AT_ONCE = 500  # variables of one query; SQLite's old limit is 999


class AnswerCache:
    """Answers by the hash of the question, in one SQLite file.

    Each answer is committed by itself in write-ahead mode: after a kill at any point the file holds all answers that
    were put and no half of one. Several processes may share the file.

    Raises
    ------
    ConfigError: the file cannot be written, or is no cache.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode=WAL")
            # no wait for the disk at every answer: a kill loses nothing, a power cut the last answers at most
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL)")
            self._connection.execute("SELECT key, answer FROM answers LIMIT 1")
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"{path}: cannot be used as a cache of answers ({error}); name another file") from None

    @staticmethod
    def key(question: dict[str, Any]) -> str:
        """Hash of everything that decides on an answer: endpoint, model, messages, settings; never the API key."""
        whole = json.dumps(question, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(whole.encode()).hexdigest()

    def get(self, keys: Iterable[str]) -> Iterator[tuple[str, Answer]]:
        """Those of ``keys`` that have an answer, with it."""
        wanted = list(keys)
        for start in range(0, len(wanted), _AT_ONCE):
            part = wanted[start : start + _AT_ONCE]
            marks = ",".join("?" * len(part))
            query = f"SELECT key, answer FROM answers WHERE key IN ({marks})"
            for key, answer in self._connection.execute(query, part).fetchall():
                yield key, Answer.from_json(answer)

    def put(self, key: str, answer: Answer) -> None:
        """Keep an answer: when this returns, no kill of the process loses it. ConfigError when the disk is full."""
        try:
            self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, answer.to_json()))
        except sqlite3.Error as error:
            raise ConfigError(f"{self.path}: an answer cannot be written ({error}); is the disk full?") from None

    def __len__(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM answers").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
