"""The figures of an evaluation that lie beside a run's bundle."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from storerec.errors import StorerecError
from storerec.evaluation import Evaluation

_log = logging.getLogger("storerec.serving")


def read_figures(folder: Path) -> Evaluation | None:
    """What ``storerec evaluate`` wrote into a run folder; None where there is nothing, or nothing that can be read."""
    file = folder / "evaluation.json"
    try:
        return Evaluation.from_json(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, StorerecError) as error:
        _log.warning("%s is left out: %s", file, error)
        return None
