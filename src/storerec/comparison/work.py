"""What the processes of one comparison share: a folder with data, settings, tasks and results."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from storerec.comparison.config import ComparisonConfig
from storerec.comparison.trial import Trial
from storerec.config import Config, RunOptions
from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.errors import ConfigError, DataError
from storerec.pipeline.folder import fingerprint
from storerec.storage import write_json
from storerec.systems.recipe import Recipe
from storerec.systems.scorer_recipe import ScorerRecipe


class CellTask(Config):
    """One thing a process computes: a trial (training and its validation) or a system's lists for the test users."""

    recipe: Recipe
    """The system."""

    seed: int
    """Seed of everything drawn: initial weights, order of samples, k-means."""

    trial: Trial = Trial()
    """Factors on its settings."""

    what: Literal["trial", "lists"] = "lists"
    """trial: train and validate. lists: rank for the test users too."""

    @property
    def name(self) -> str:
        """Unique within a comparison."""
        return f"{self.recipe.name}-seed{self.seed}-{self.trial.name}-{self.what}"

    @property
    def system(self) -> str:
        """The system's name."""
        return self.recipe.name


class ScoreTask(Config):
    """One thing a process computes: a scorer's scores of the test candidates, trained where it learns."""

    scorer: ScorerRecipe
    """The scorer, with the system it stands on."""

    seed: int
    """Seed of everything drawn."""

    trial: Trial = Trial()
    """Factors on the settings of the recommender below the scorer."""

    judgements: str
    """Fingerprint of the judgements it learns from and the candidates it scores."""

    what: Literal["scores"] = "scores"
    """Tells it from other tasks."""

    @property
    def name(self) -> str:
        """Unique within a comparison."""
        return f"{self.scorer.name}-seed{self.seed}-{self.trial.name}-{self.what}"

    @property
    def system(self) -> str:
        """The scorer's name."""
        return self.scorer.name


Task = CellTask | ScoreTask


def check_own_folder(folder: Path) -> None:
    """Raise ConfigError where ``folder`` holds files that are no comparison's."""
    try:
        ours = {"config", "data"} <= set(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):  # none there, or no JSON object
        ours = not folder.exists() or (folder.is_dir() and all(path.name == "data" for path in folder.iterdir()))
    if not ours:
        raise ConfigError(f"{folder} exists and is no comparison's folder; give another folder")


@dataclass(frozen=True)
class Work:
    """A comparison's folder.

    Attributes
    ----------
    folder: holds ``data``, ``config.json``, ``stages``, ``cells`` and ``logs``.
    config: settings.
    device, dtype: where to compute.
    data: fingerprint of items and histories.
    threads: CPU threads of each process; None leaves it to the libraries.
    """

    folder: Path
    config: ComparisonConfig
    device: str
    dtype: str
    data: str
    threads: int | None = None

    @classmethod
    def create(
        cls,
        folder: Path,
        catalogue: Catalogue,
        histories: Histories,
        config: ComparisonConfig,
        options: RunOptions,
        threads: int | None,
        *,
        scoring: bool = False,
    ) -> Self:
        """Make the folder, or take up the one that stands; settings may change between calls, data may not.

        ``scoring`` says whether candidates are scored; else those settings are not kept.

        Raises
        ------
        ConfigError: the folder is of other data, or holds files that are none of ours.
        """
        folder, data = Path(folder), fingerprint(catalogue, histories)
        check_own_folder(folder)
        record = folder / "config.json"
        if record.is_file() and json.loads(record.read_text(encoding="utf-8")).get("data") != data:
            raise ConfigError(f"{folder} holds a comparison on other data; give another folder or delete it")
        catalogue.write_parquet(folder / "data" / "items.parquet")
        histories.write_parquet(folder / "data" / "histories.parquet")
        kept = config.model_dump(mode="json", exclude=None if scoring else {"scoring"})
        values = {"config": kept, "data": data, "threads": threads}
        write_json(record, values | {"device": options.device, "dtype": options.dtype})
        (folder / "tasks").mkdir(exist_ok=True)
        (folder / "logs").mkdir(exist_ok=True)
        return cls(folder, config, options.device, options.dtype, data, threads)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open what :meth:`create` made."""
        record = folder / "config.json"
        if not record.is_file():
            raise DataError(f"{folder} holds no comparison; make one with `storerec compare`")
        there: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        config = ComparisonConfig.parse(there["config"], source=str(record))
        return cls(folder, config, there["device"], there["dtype"], there["data"], there["threads"])

    @cached_property
    def catalogue(self) -> Catalogue:
        """Items."""
        return Catalogue.read_parquet(self.folder / "data" / "items.parquet")

    @cached_property
    def histories(self) -> Histories:
        """Histories."""
        return Histories.read_parquet(self.folder / "data" / "histories.parquet")

    @property
    def judged(self) -> Path:
        """Folder of the judgements, where candidates are scored."""
        return self.folder / "data" / "judged"

    def options(self, seed: int) -> RunOptions:
        """Run options of a cell."""
        values = {"seed": seed, "device": self.device, "dtype": self.dtype, "progress": False}
        return RunOptions.parse(values, source=str(self.folder / "config.json"))

    def write_task(self, task: Task) -> None:
        """Leave a task for a process."""
        write_json(self.folder / "tasks" / f"{task.name}.json", task.model_dump(mode="json"))

    def task(self, name: str) -> Task:
        """Read it there."""
        place = self.folder / "tasks" / f"{name}.json"
        values = json.loads(place.read_text(encoding="utf-8"))
        return (ScoreTask if values.get("what") == "scores" else CellTask).parse(values, source=str(place))

    def digest(self, task: Task) -> str:
        """Hash of all that decides a task's result; settings of scoring decide on no ranking."""
        config = self.config.model_dump(mode="json", exclude={"scoring"} if isinstance(task, CellTask) else None)
        values = [config, self.data, self.device, self.dtype, task.model_dump(mode="json")]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def result(self, task: Task) -> Path:
        """Where a task's facts, or its error, are written."""
        return self.folder / "cells" / f"{task.name}.json"

    def log(self, task: Task) -> Path:
        """Where a process's output goes."""
        return self.folder / "logs" / f"{task.name}.log"
