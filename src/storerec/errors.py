"""The exception tree: every error a user can cause is a ``StorerecError`` whose text names the place and the fix."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any


class StorerecError(Exception):
    """Base of all errors raised on purpose by storerec; the command line prints it as one line, without traceback."""


class ConfigError(StorerecError):
    """A configuration file, field or command-line value is not usable."""


class DataError(StorerecError):
    """Input data is not usable: a table, file, row or field."""


class RowError(DataError):
    """One row of an input file is bad; carries where.

    Attributes
    ----------
    file: path of the file as given.
    line: 1-based line (or row, for binary tables) in the file.
    field: the column or JSON key at fault, if one is.
    """

    def __init__(self, reason: str, *, file: str, line: int, field: str | None = None) -> None:
        where = f"{file}, line {line}" + (f", field '{field}'" if field else "")
        super().__init__(f"{where}: {reason}")
        self.file, self.line, self.field, self.reason = file, line, field, reason

    def __reduce__(self) -> tuple[Any, ...]:
        """How it comes whole from another process: by default only the text would be passed on."""
        return partial(type(self), self.reason, file=self.file, line=self.line, field=self.field), ()


class ItemError(DataError):
    """Some of the items that are added cannot be; carries which.

    Attributes
    ----------
    item_ids: their ids; the text names the first.
    """

    def __init__(self, reason: str, *, item_ids: Sequence[str]) -> None:
        more = f" (and {len(item_ids) - 1} others)" if len(item_ids) > 1 else ""
        super().__init__(f"item '{item_ids[0]}'{more}: {reason}")
        self.item_ids, self.reason = tuple(item_ids), reason

    def __reduce__(self) -> tuple[Any, ...]:
        """As of :class:`RowError`."""
        return partial(type(self), self.reason, item_ids=self.item_ids), ()


class FetchError(StorerecError):
    """A pinned artefact could not be fetched from the package registry, or its hash differs."""


class BackboneError(StorerecError):
    """A language model could not be loaded or cannot serve as backbone."""


class TrainingError(StorerecError):
    """Training cannot start or go on, for instance because a run folder belongs to another configuration."""


class LostProcessError(TrainingError):
    """Another process of those that compute together has ended; it says itself why, if it could."""


class BundleError(StorerecError):
    """A saved bundle is incomplete, altered or of an unknown format; the text names the file."""


class EndpointError(StorerecError):
    """An endpoint cannot be reached, refuses the key, the model or the question, or answers something else."""


class MissingExtraError(StorerecError, ImportError):
    """An optional dependency is not installed; the text names the extra that brings it."""


class StorerecWarning(UserWarning):
    """Base of the warnings storerec gives: the result is valid, but something was reduced, dropped or filled in."""
