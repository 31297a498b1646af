"""How verbs end: user errors and warnings are one line on standard error, bugs keep their traceback."""

from __future__ import annotations

import errno
import functools
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec

import typer

from storerec.errors import StorerecError, StorerecWarning

USER_ERROR, INTERRUPTED = 2, 130

P = ParamSpec("P")

# Faults of the machine that no code of ours can prevent: full disk, quota, rights, read-only file system.
_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}


def verb(*, resumes: bool) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Make a function a verb of the command line that ends as all of them do.

    A :class:`StorerecError` becomes ``error: ...`` and exit code 2; Ctrl-C says how to go on and exits with
    130; warnings of ours become ``warning: ...``, each text once. ``resumes`` says whether the same command
    goes on where it was stopped.
    """

    def decorate(work: Callable[P, None]) -> Callable[P, None]:
        @functools.wraps(work)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            with _short_warnings():
                try:
                    work(*args, **kwargs)
                except StorerecError as error:
                    _end(f"error: {error}", USER_ERROR)
                except OSError as error:
                    if error.errno not in _MACHINE:
                        raise
                    where = f"{error.filename}: " if error.filename else ""
                    _end(f"error: {where}{error.strerror}", USER_ERROR)
                except KeyboardInterrupt:
                    _end(_farewell(resumes), INTERRUPTED)

        return run

    return decorate


def _farewell(resumes: bool) -> str:
    command = shlex.join(["storerec", *sys.argv[1:]])
    if resumes:
        return f"interrupted; what is done is kept, go on with: {command}"
    return f"interrupted; start again with: {command}"


def _end(text: str, code: int) -> None:
    say(text)
    raise typer.Exit(code)


def say(text: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(" ".join(text.split()) + "\n")
    sys.stderr.flush()


@contextmanager
def _short_warnings() -> Iterator[None]:
    said: set[str] = set()
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if not issubclass(category, StorerecWarning):
            usual(message, category, *rest, **more)
        elif str(message) not in said:
            said.add(str(message))
            say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", StorerecWarning)
        warnings.showwarning = show
        yield
