"""A trained STORE to and from its bundle."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from storerec.bundle import MANIFEST, Bundle, read_bundle, write_bundle
from storerec.bundle.journal import Journal
from storerec.codes import Clusterer, CodeTable, CodeTree
from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.errors import BundleError, StorerecWarning
from storerec.llm.backbone import Backbone, BackboneConfig
from storerec.llm.trainable import TrainableModule
from storerec.pipeline.answers import Inspection
from storerec.pipeline.changes import inspected, let_in, replay
from storerec.pipeline.config import StoreConfig
from storerec.pipeline.store import STORE
from storerec.pipeline.waiting import plan_waiting
from storerec.recommender import Recommender
from storerec.recommender.scoring import CodeScorer, ScorerConfig
from storerec.tokenizer import DenseTokenizer
from storerec.tokenizer.samples import Attributes


def save_bundle(folder: Path, store: STORE) -> None:
    """Write ``store`` as a bundle; an older one in ``folder`` is replaced in one step."""
    backbone = store.tokenizer.backbone
    model_config = backbone.model.config
    scorer = store.scorer
    write_bundle(
        folder,
        tensors={
            "tokenizer": _arrays(store.tokenizer.state_dict()),
            "recommender": _arrays(store.recommender.state_dict()),
            "clusterer": store.clusterer.arrays(),
            "table": table_arrays(store.table),
            "tree": store.recommender.tree.source.arrays(derived=True),
        }
        | ({"scorer": _arrays(scorer.state_dict())} if scorer else {}),
        documents={
            "config": store.config.model_dump(mode="json"),
            "backbone": {
                **backbone.config.model_dump(mode="json"),
                "commit": getattr(model_config, "_commit_hash", None),
                "model_type": model_config.model_type,
                "fingerprint": fingerprint(backbone),
            },
            "prompts": store.config.recommender.prompts.model_dump(mode="json"),
            "items": {
                "title_attribute": store.catalogue.title_attribute,
                "columns": store.catalogue.frame.to_dict(as_series=False),
            },
            "run": {
                "seed": store.options.seed,
                "codes": store.code_report().to_json(),
                "removed": store.catalogue.ids.filter(pl.Series(store.removed)).to_list(),
                "trained_items": store.trained,
            },
        }
        | ({"scorer": scorer.settings.model_dump(mode="json")} if scorer else {}),
    )


def load_bundle(folder: Path, *, backbone: str | None, options: RunOptions, for_inference: bool = True) -> STORE:
    """Read a bundle (or a run folder's), put its parts together and do what its journal of changes says.

    Raises
    ------
    BundleError: the folder is no bundle, a file of it is missing, truncated or altered, the backbone found under its
        name is not the one it was trained on, or the journal beside it does not fit.

    Warns
    -----
    StorerecWarning: items of the journal were added under another training, and are encoded anew at each load until
        :class:`storerec.pipeline.Live` has opened the folder.
    """
    store, journal, training = load_unchanged(folder, backbone=backbone, options=options, for_inference=for_inference)
    changes = journal.since()
    journal.close()
    if waiting := replay(store, changes, training):
        addition, _ = plan_waiting(store, waiting, {})
        if addition is not None:
            let_in(store, addition, waiting)
        warnings.warn(
            f"{len(waiting)} items were added under another training of {folder}; they are encoded anew",
            StorerecWarning,
            stacklevel=3,
        )
    return store


def load_unchanged(
    folder: Path, *, backbone: str | None, options: RunOptions, for_inference: bool = True
) -> tuple[STORE, Journal, str]:
    """Read a bundle as it was written; its journal of changes, and the identity of its training, beside.

    Raises
    ------
    BundleError: as :func:`load_bundle`.
    """
    folder, saved = open_bundle(folder)
    config = StoreConfig.parse(saved.documents["config"], source=str(folder / "config.json"))
    place = backbone_place(config.backbone, saved.documents["backbone"].get("commit"), backbone)
    model = Backbone.load(place, options, for_inference=for_inference)
    if fingerprint(model) != saved.documents["backbone"]["fingerprint"]:
        raise BundleError(
            f"{folder}: backbone '{place.name}' is not the model this bundle was trained on "
            f"({saved.documents['backbone']['name']}); give the right one as backbone"
        )
    catalogue = _catalogue(saved)
    seed = int(saved.documents["run"]["seed"])
    parts = Attributes.choose(catalogue.attributes, config.tokenizer)
    tokenizer = DenseTokenizer(model, parts.named(config.tokenizer), len(parts.tasks), seed=seed)
    tree = CodeTree.from_arrays(saved.tensors["tree"])
    recommender = Recommender(model, config.recommender, tree, None, seed=seed)
    trained: dict[str, TrainableModule] = {"tokenizer": tokenizer, "recommender": recommender}
    scorer = None
    if "scorer" in saved.tensors:
        settings = ScorerConfig.parse(saved.documents.get("scorer"), source=str(folder / "scorer.json"))
        trained["scorer"] = scorer = CodeScorer(recommender, settings, seed=seed)
    for name, part in trained.items():
        try:
            part.load_state_dict({key: torch.from_numpy(np.array(a)) for key, a in saved.tensors[name].items()})
        except (KeyError, RuntimeError) as error:
            raise BundleError(f"{folder / name}.safetensors does not fit the configuration: {error}") from None
    store = STORE(
        catalogue,
        config,
        tokenizer,
        Clusterer.from_arrays(saved.tensors["clusterer"]),
        mapped_table(saved, tree),
        recommender,
        options.model_copy(update={"seed": seed}),
        scorer=scorer,
        # a bundle without this number is of a version that kept none: all its items count as trained
        trained=saved.documents["run"].get("trained_items"),
    )
    store.remove_items(saved.documents["run"].get("removed", []))
    return store, Journal.beside(folder), saved.manifest.training


def load_inspection(folder: Path) -> Inspection:
    """Read what explains a bundle's (or a run folder's) items, without the language model."""
    folder, saved = open_bundle(folder)
    tree = CodeTree.from_arrays(saved.tensors["tree"])
    table = mapped_table(saved, tree)
    journal = Journal.beside(folder)
    changes = journal.since()
    journal.close()
    catalogue = _catalogue(saved)
    removed = catalogue.ids.is_in(saved.documents["run"].get("removed", [])).to_numpy()
    found, others = inspected(Inspection(catalogue, table, tree, removed), changes, saved.manifest.training)
    if others:
        warnings.warn(
            f"{others} items were added under another training of {folder}; they have no codes here before "
            "`storerec add-items` or a server has opened it",
            StorerecWarning,
            stacklevel=2,
        )
    return found


def open_bundle(folder: Path) -> tuple[Path, Bundle]:
    """Where the bundle lies, which is inside a run folder if ``folder`` is one, and its content, checked."""
    folder = bundle_folder(folder)
    return folder, read_bundle(folder)


def bundle_folder(folder: Path) -> Path:
    """Where the bundle lies: in a run folder, or this is it; BundleError for a run that is not finished."""
    inner = folder / "bundle"
    if not (folder / MANIFEST).exists() and (inner / MANIFEST).exists():
        return inner
    if (folder / "run.json").exists() and not (folder / MANIFEST).exists():
        raise BundleError(f"{folder} is a run that is not finished: run `storerec fit` with the same arguments again")
    return folder


def backbone_place(trained_on: BackboneConfig, commit: str | None, here: str | None) -> BackboneConfig:
    """Where to load the backbone from: ``here`` if given, else where it was, at the commit it had then."""
    if here is not None:
        return trained_on.model_copy(update={"name": here, "revision": None})
    return trained_on.model_copy(update={"revision": trained_on.revision or commit})


def fingerprint(backbone: Backbone) -> str:
    """Hash that tells one language model from another, whatever its folder's name: some rows of every weight.

    Adapters on it do not count, so that it is the same before and after they are added.
    """
    digest = hashlib.sha256(backbone.model.config.model_type.encode())
    weights = {
        name.replace(".base_layer", ""): weight.detach()
        for name, weight in backbone.model.named_parameters()
        if ".lora_" not in name
    }
    for name, weight in sorted(weights.items()):
        matrix = weight.reshape(len(weight) if weight.dim() else 1, -1)
        some = matrix[torch.linspace(0, len(matrix) - 1, 4).long().to(weight.device)]
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(np.ascontiguousarray(some.float().cpu().numpy(), dtype="<f4").tobytes())
    return digest.hexdigest()


def table_arrays(table: CodeTable) -> dict[str, np.ndarray]:
    """The table and what servers need of what follows from it, but for the leaf of each item, which the tree has."""
    arrays = table.arrays(derived=True)
    del arrays["tuple_of"]
    return arrays


def mapped_table(saved: Bundle, tree: CodeTree) -> CodeTable:
    """The table, mapped; a bundle of a version that kept the codes alone has the rest computed when it is asked for."""
    return CodeTable.from_arrays({**saved.tensors["table"], "tuple_of": tree.tuple_of})


def _catalogue(saved: Bundle) -> Catalogue:
    items = saved.documents["items"]
    frame = pl.DataFrame(items["columns"], schema=dict.fromkeys(items["columns"], pl.String))
    return Catalogue(frame, items["title_attribute"])


def _arrays(tensors: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: tensor.detach().float().cpu().numpy() for name, tensor in tensors.items()}
