"""Where the API key comes from: a file or the environment, never a command line that others could read."""

from __future__ import annotations

import os
from pathlib import Path

from storerec.errors import ConfigError

VARIABLE = "STOREREC_API_KEY"
"""Environment variable that holds the key where no file is given."""

_SHORTEST = 16


def read_key(file: Path | None) -> str | None:
    """The key of ``file``, else of the environment variable; None where neither is given.

    Raises
    ------
    ConfigError: the file cannot be read, or the key is empty, too short to be safe, or more than one line.
    """
    if file is None:
        if VARIABLE not in os.environ:
            return None
        text, source = os.environ[VARIABLE], VARIABLE
    else:
        source = f"--api-key-file {file}"
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{source}: cannot be read ({error})") from None
    key = text.strip()
    if len(key) < _SHORTEST or not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError(
            f"{source}: a key is one line of {_SHORTEST} or more printable ASCII characters without blanks, such as "
            "`openssl rand -hex 32` gives"
        )
    return key
