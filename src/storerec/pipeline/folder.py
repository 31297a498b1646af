"""The run folder: data, configuration and every stage's result, so that any stage can take up where it stands."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError
from safetensors.torch import load_file as load_tensors

from storerec.codes import Clusterer, CodeTable, CodeTree
from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.data.splits import Split, check_trainable, split
from storerec.errors import ConfigError, DataError, TrainingError
from storerec.llm.backbone import Backbone
from storerec.pipeline.config import StoreConfig
from storerec.recommender import Recommender
from storerec.recommender.scoring import CodeScorer, ScorerConfig
from storerec.storage import map_arrays, scratch, write_json
from storerec.tokenizer import DenseFiles, DenseTokenizer
from storerec.tokenizer.dense_files import WholeVectors
from storerec.tokenizer.samples import Attributes

FORMAT = 1
_HALF_MADE = r"data|data/(items|histories)\.parquet|(data/\.(items|histories)\.parquet|\.run\.json)\..*\.tmp"


class RunFolder:
    """A folder that holds one run. Made by :meth:`create`, found again by :meth:`open`.

    Attributes
    ----------
    path: the folder.
    config: what the run computes.
    options: where and how; the seed is the run's, device and dtype are the caller's.
    """

    def __init__(self, path: Path, config: StoreConfig, options: RunOptions) -> None:
        self.path, self.config, self.options = path, config, options

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process, which may run in another folder, opens this one again and reads what it needs."""
        backbone = self.config.backbone
        if (place := Path(backbone.name).expanduser()).exists():
            backbone = backbone.model_copy(update={"name": str(place.resolve())})
        config = self.config.model_copy(update={"backbone": backbone})
        return RunFolder, (self.path.resolve(), config, self.options)

    @classmethod
    def create(
        cls, path: Path, catalogue: Catalogue, histories: Histories, config: StoreConfig, options: RunOptions
    ) -> RunFolder:
        """Start a run in ``path``, or open the run there if it has the same data, configuration and seed.

        Raises
        ------
        TrainingError: ``path`` holds another run, or files that are none of ours.
        ConfigError: the tokenizer reads an attribute that the items lack.
        DataError: the histories are too short to be split as configured, or to train on.
        """
        path = Path(path)
        identity = {
            "format": FORMAT,
            "seed": options.seed,
            "data": fingerprint(catalogue, histories),
            "config": config.model_dump(mode="json"),
        }
        record = path / "run.json"
        if record.exists():
            there = _read_record(record)
            same = {name: there.get(name) == value for name, value in identity.items()}
            same["config"] = _same_config(there.get("config"), config)
            if different := [name for name in same if not same[name]]:
                raise TrainingError(
                    f"{path} holds a run with another {' and '.join(different)}; give another folder or delete it"
                )
            return cls(path, config, options)._holding(catalogue, histories)
        if path.is_file() or (path.is_dir() and not _half_made(path)):
            raise TrainingError(f"{path} exists and is no run folder; give another folder")
        # what would fail hours later is told before any work
        Attributes.choose(catalogue.attributes, config.tokenizer)
        run = cls(path, config, options)._holding(catalogue, histories)
        check_trainable(run.split)
        catalogue.write_parquet(path / "data" / "items.parquet")
        histories.write_parquet(path / "data" / "histories.parquet")
        write_json(record, identity)
        return run

    @classmethod
    def open(cls, path: Path, options: RunOptions | None = None) -> RunFolder:
        """Open the run in ``path``; raises DataError when there is none or its data is gone."""
        path = Path(path)
        record = path / "run.json"
        if not record.is_file():
            raise DataError(f"{path} is no run folder (it has no run.json); make one with `storerec fit`")
        there = _read_record(record)
        config = StoreConfig.parse(there.get("config"), source=str(record))
        options = (options or RunOptions()).model_copy(update={"seed": int(there.get("seed", 0))})
        for name in ("items", "histories"):
            if not (path / "data" / f"{name}.parquet").is_file():
                raise DataError(f"{path / 'data' / name}.parquet: no such file; the run folder is damaged")
        return cls(path, config, options)

    def _holding(self, catalogue: Catalogue, histories: Histories) -> Self:
        self.__dict__ |= {"catalogue": catalogue, "histories": histories}  # where cached properties live
        return self

    @cached_property
    def catalogue(self) -> Catalogue:
        """The items, as stored in the folder."""
        return Catalogue.read_parquet(self.path / "data" / "items.parquet")

    @cached_property
    def histories(self) -> Histories:
        """The histories, as stored in the folder."""
        return Histories.read_parquet(self.path / "data" / "histories.parquet")

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """Text attributes of the items, known without reading these."""
        if "catalogue" in self.__dict__:
            return self.catalogue.attributes
        return Catalogue.attributes_in(self.path / "data" / "items.parquet")

    def items(self, part: slice) -> Catalogue:
        """Some of the items; a process that needs no others reads no others."""
        if "catalogue" in self.__dict__:
            return Catalogue(self.catalogue.frame[part], self.catalogue.title_attribute)
        return Catalogue.read_parquet(self.path / "data" / "items.parquet", part)

    @property
    def data(self) -> str:
        """Fingerprint of items and histories."""
        return str(_read_record(self.path / "run.json").get("data"))

    @cached_property
    def split(self) -> Split:
        """The histories split as configured; the same for the same seed."""
        return split(self.histories, self.config.split, self.options.seed)

    @cached_property
    def backbone(self) -> Backbone:
        """The language model, loaded once per process."""
        return Backbone.load(self.config.backbone, self.options)

    @cached_property
    def tokenizer(self) -> DenseTokenizer:
        """The trained dense tokenizer; its adapter is added to :attr:`backbone`."""
        parts = Attributes.choose(self.attributes, self.config.tokenizer)
        settings = parts.named(self.config.tokenizer)
        model = DenseTokenizer(self.backbone, settings, len(parts.tasks), seed=self.options.seed)
        model.load_state_dict(self.tensors("tokenizer"))
        return model.requires_grad_(False).eval()

    @cached_property
    def clusterer(self) -> Clusterer:
        """The fitted clusterer."""
        return Clusterer.from_arrays(self.arrays("clusterer"))

    @cached_property
    def table(self) -> CodeTable:
        """The code table."""
        return CodeTable.from_arrays(self.arrays("table"))

    @cached_property
    def recommender(self) -> Recommender:
        """The trained recommender, on the tokenizer's weights."""
        self.tokenizer  # noqa: B018 - its adapter must be on the backbone first
        tree = self._tree()
        model = Recommender(self.backbone, self.config.recommender, tree, None, seed=self.options.seed)
        model.load_state_dict(self.tensors("recommender"))
        return model.requires_grad_(False).eval()

    def _tree(self) -> CodeTree:
        """The tree of the run's codes; a large one in files of this process alone: others may make theirs now."""
        with scratch(self.work("tree")) as own:
            return CodeTree.from_table(self.table, folder=own)

    @cached_property
    def scorer(self) -> CodeScorer | None:
        """The trained scorer, on the recommender's weights; None where none was trained."""
        record = self.scorer_record()
        if record is None:
            return None
        settings = ScorerConfig.parse(record.get("config"), source=str(self.path / "scorer.json"))
        model = CodeScorer(self.recommender, settings, seed=self.options.seed)
        model.load_state_dict(self.tensors("scorer"))
        return model.requires_grad_(False).eval()

    def scorer_record(self) -> dict[str, Any] | None:
        """What is written of a trained scorer: its configuration, its data's fingerprint and its measures."""
        record = self.path / "scorer.json"
        return _read_record(record) if record.is_file() and self.has("scorer") else None

    def file(self, name: str) -> Path:
        """Where a stage's result stands: tokenizer, dense_tokens, clusterer, table, recommender or scorer."""
        return self.path / "stages" / f"{name}.safetensors"

    def has(self, *names: str) -> bool:
        """Whether these results all stand."""
        return all(
            self.file(name).is_file() or (name == "dense_tokens" and DenseFiles.finished(self.path / "stages"))
            for name in names
        )

    @property
    def dense(self) -> DenseFiles | WholeVectors:
        """Dense tokens of all items, in files."""
        if self.file("dense_tokens").is_file():  # of a version that kept them in one
            return WholeVectors(self.arrays("dense_tokens")["dense_tokens"])
        return DenseFiles.open(self.path / "stages")

    def arrays(self, name: str) -> dict[str, Any]:
        """A result as numpy arrays, views of its file."""
        return self._read(name, map_arrays)

    def tensors(self, name: str) -> dict[str, Any]:
        """A result as torch tensors."""
        return self._read(name, load_tensors)

    def _read(self, name: str, load: Any) -> dict[str, Any]:
        if not self.file(name).is_file():
            raise TrainingError(f"{self.file(name)} is missing; run that stage (or `storerec fit`) first")
        try:
            return load(self.file(name))
        except (SafetensorError, DataError) as error:
            raise TrainingError(
                f"{self.file(name)} cannot be read ({error}); delete it and run its stage again"
            ) from None

    def work(self, stage: str) -> Path:
        """Folder of a stage's checkpoints and logs."""
        return self.path / "work" / stage

    def drop_checkpoints(self, stage: str) -> None:
        """Delete the checkpoints of a finished stage; its logs stay."""
        for checkpoint in self.work(stage).rglob("checkpoint-*"):
            shutil.rmtree(checkpoint, ignore_errors=True)

    def logs(self) -> dict[str, list[dict[str, float]]]:
        """Training logs by phase, as far as they stand."""
        names = {"tokenizer": "tokenizer", "joint": "recommender/joint", "alone": "recommender/alone"}
        files = {name: self.work(place) / "log.json" for name, place in names.items()}
        return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.is_file()}


def fingerprint(catalogue: Catalogue, histories: Histories) -> str:
    """Hash of items and histories, equal for equal data however it was read."""
    digest = hashlib.sha256()
    for column in ("item_id", *catalogue.attributes):
        digest.update(column.encode() + b"\0")
        digest.update("\0".join(catalogue.frame[column].to_list()).encode())
    digest.update("\0".join(histories.user_ids.to_list()).encode())
    digest.update(histories.offsets.astype("<i8").tobytes() + histories.items.astype("<i4").tobytes())
    return digest.hexdigest()


def _same_config(there: object, config: StoreConfig) -> bool:
    """Whether a stored configuration says the same; a field that is newer than it counts by its default."""
    try:
        return StoreConfig.parse(there) == config
    except ConfigError:
        return False


def _half_made(path: Path) -> bool:
    """Whether a folder is empty, or what :meth:`RunFolder.create` leaves when it is killed before run.json stands."""
    if not all(re.fullmatch(_HALF_MADE, file.relative_to(path).as_posix()) for file in path.rglob("*")):
        return False
    items, histories = path / "data" / "items.parquet", path / "data" / "histories.parquet"
    try:  # another program's tables may have these names
        _ = items.exists() and Catalogue.read_parquet(items)
        _ = histories.exists() and Histories.read_parquet(histories)
    except DataError:
        return False
    for rest in path.rglob(".*.tmp"):
        rest.unlink()
    return True


def _read_record(record: Path) -> dict[str, Any]:
    try:
        return json.loads(record.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise DataError(f"{record} is not valid JSON; the run folder is damaged") from None
