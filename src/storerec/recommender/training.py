"""Training the recommender: both tasks jointly, then recommendation alone (paper, 3.3 and 4.1)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from storerec.codes import CodeTable, CodeTree
from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.data.splits import Cases, Split, check_trainable
from storerec.llm import processes
from storerec.llm.backbone import Backbone
from storerec.llm.batching import BucketSampler
from storerec.llm.precision import pick_dtype
from storerec.llm.progress import Progress
from storerec.llm.trainable import TrainableModule
from storerec.llm.training_config import TrainingConfig
from storerec.recommender.alignment import alignment_samples
from storerec.recommender.config import RecommenderConfig, SearchConfig
from storerec.recommender.decoder import Decoder
from storerec.recommender.model import Recommender
from storerec.recommender.search import BeamSearch, StepDecoder
from storerec.recommender.tasks import RecommenderSamples
from storerec.storage import save_tensors

Validate = Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class Phase:
    """One training phase of a model over codes.

    Attributes
    ----------
    label: what the progress bar says.
    folder: where its checkpoints, its log and its end result go.
    training: how long and how fast.
    batch_size: samples per optimizer step.
    metric: the validation metric that decides on the best weights.
    """

    label: str
    folder: Path
    training: TrainingConfig
    batch_size: int
    metric: str


def train_recommender(
    catalogue: Catalogue,
    split: Split,
    table: CodeTable,
    means: Sequence[np.ndarray] | None,
    backbone: Backbone,
    config: RecommenderConfig,
    folder: Path,
    options: RunOptions,
    progress: Progress,
    *,
    search: SearchConfig | None = None,
) -> tuple[Recommender, dict[str, list[dict[str, float]]]]:
    """Train a recommender on ``split.train`` and return it with the log of each phase.

    Where the backbone holds the tokenizer's adapter, the recommender starts from the tuned weights. Checkpoints go to
    ``folder/joint`` and ``folder/alone``; an interrupted training resumes in its phase.

    Raises
    ------
    DataError: no training user has two items, so there is nothing to predict.
    """
    check_trainable(split)
    model = Recommender(backbone, config, CodeTree.from_table(table), means, seed=options.seed)
    model.hold_unseen(split.train.item_counts(len(catalogue)))
    model.start_items(split.train)
    model.compute_dtype = pick_dtype(options.dtype, backbone.device)
    validate = validator(
        # what is kept must not depend on how lists are made faster later
        lambda: Decoder.under(model, options.model_copy(update={"int8": False})),
        table,
        sample_cases(split.validation, config.validation_users, options.seed),
        search or SearchConfig(),
        config.normaliser,
        exclude_history=config.validation_excludes_history,
        afterwards=lambda: model.use_adapters(train=True),
    )
    instruction = backbone.encode([config.prompts.sequence], max_tokens=10_000, begin=True).flat
    logs = {}
    phases = [("joint", config.joint, True)] if config.alignment else []
    for name, training, align in [*phases, ("alone", config.alone, False)]:
        tasks = alignment_samples(catalogue, split.train, backbone, config) if align else ()
        samples = RecommenderSamples(split.train, tasks, instruction, config, options.seed)
        label = "training the recommender" + (" with text alignment" if align else "")
        phase = Phase(label, folder / name, training, config.batch_size, config.validation_metric)
        logs[name] = run_phase(model, samples, phase, options, progress, backbone.device, validate)
    return model, logs


def run_phase(
    model: TrainableModule,
    samples: Any,
    phase: Phase,
    options: RunOptions,
    progress: Progress,
    device: torch.device,
    validate: Validate | None,
) -> list[dict[str, float]]:
    """Train through ``phase`` and return its log; skipped when an earlier run finished it: both are then read back.

    ``samples`` is a data set with ``lengths``, ``groups`` and ``collate`` (:class:`RecommenderSamples`, say).
    """
    from storerec.llm.training import train  # here: it imports transformers, which reading a bundle does without

    done = phase.folder / "finished.safetensors"
    if processes.by_first(done.exists):
        model.load_state_dict(load_file(done))
        return json.loads((phase.folder / "log.json").read_text(encoding="utf-8"))
    sizes = [phase.batch_size] * (int(samples.groups.max(initial=0)) + 1)
    log = train(
        model,
        samples,
        samples.collate,
        BucketSampler(samples.lengths, samples.groups, sizes, seed=options.seed),
        phase.training,
        phase.folder,
        seed=options.seed,
        label=phase.label,
        progress=progress,
        device=device,
        validate=validate,
        metric=phase.metric if validate else None,
        sharded=options.sharded,
    )
    if processes.is_first():
        save_tensors(done, model.state_dict())
    processes.barrier()
    return log


def sample_cases(cases: Cases, users: int | None, seed: int) -> Cases:
    """A random sample of ``users`` cases, in their order; all of them where ``users`` is None or not fewer."""
    if users is None or users >= len(cases):
        return cases
    return cases.select(np.sort(np.random.default_rng([seed, 3]).choice(len(cases), users, replace=False)))


def validator(
    decoder: Callable[[], StepDecoder],
    table: CodeTable,
    cases: Cases,
    search: SearchConfig,
    normaliser: str,
    *,
    exclude_history: bool = False,
    afterwards: Callable[[], None] | None = None,
) -> Validate | None:
    """A function that gives item-level Recall@10 and NDCG@10 on ``cases`` over the whole catalogue; None without any.

    Several processes each search for every so many-th case, and all get the figures over all cases.

    Parameters
    ----------
    decoder: makes the step decoder of the model as it then is.
    exclude_history: leave items of the user's own history out of the lists.
    afterwards: called after each search, to make the model ready for training again.
    """
    if len(cases) == 0:
        return None

    def validate() -> Mapping[str, float]:
        own = cases.select(np.arange(processes.rank(), len(cases), processes.world()))
        items, _ = BeamSearch(decoder(), table, search.in_validation, normaliser)(
            own.histories, 10, own=exclude_history
        )
        if afterwards is not None:
            afterwards()
        hit = np.empty((len(cases), 10), bool)  # at most one true per row
        for number, part in enumerate(processes.gathered(items == own.targets[:, None])):
            hit[number :: processes.world()] = part
        place = hit.argmax(1)
        found = hit.any(1)
        return {"recall@10": float(found.mean()), "ndcg@10": float((found / np.log2(place + 2)).mean())}

    return validate
