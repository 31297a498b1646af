"""Bad rows: stop at the first, or leave them out and say so once."""

from __future__ import annotations

import warnings
from typing import Literal

from storerec.errors import DataError, RowError, StorerecWarning

BadRows = Literal["error", "skip"]


class Faults:
    """Bad rows of one table: the first one raises, or all are counted and reported in one warning.

    Attributes
    ----------
    count
        How many there were so far.
    first
        The first of them, or None.
    """

    def __init__(self, name: str, policy: BadRows) -> None:
        if policy not in ("error", "skip"):
            raise DataError(f"bad_rows must be 'error' or 'skip', not '{policy}'")
        self._name, self.policy = name, policy
        self.count = 0
        self.first: RowError | None = None

    def add(self, error: RowError, count: int = 1) -> None:
        """Note ``count`` bad rows of one file, the first of them as ``error`` says; raises it under policy
        "error".
        """
        if self.policy == "error":
            raise error
        self.count += count
        if self.first is None or error.line < self.first.line:
            self.first = error

    def add_later(self, count: int, first: RowError | None = None) -> None:
        """Note bad rows that lie behind those noted before."""
        self.count += count
        self.first = self.first or first

    def report(self) -> None:
        """Warn of what was skipped, once the table is read."""
        if self.first is not None:
            text = f"{self._name}: {self.count} bad rows were skipped; the first: {self.first}"
            warnings.warn(text, StorerecWarning, stacklevel=4)
