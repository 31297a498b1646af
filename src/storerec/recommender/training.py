"""Training the recommender: both tasks jointly, then recommendation alone (paper, 3.3 and 4.1)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from storerec.codes import CodeTable, CodeTree
from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.data.splits import Cases, Split, check_trainable
from storerec.llm.backbone import Backbone
from storerec.llm.batching import BucketSampler
from storerec.llm.precision import pick_dtype
from storerec.llm.progress import Progress
from storerec.llm.training import TrainingConfig, train
from storerec.recommender.config import RecommenderConfig, SearchConfig
from storerec.recommender.decoder import Decoder
from storerec.recommender.model import Recommender
from storerec.recommender.search import BeamSearch
from storerec.recommender.tasks import RecommenderSamples, alignment_texts
from storerec.storage import save_tensors


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

    The backbone must hold the tokenizer's adapter: the recommender starts from the tuned weights. Checkpoints go to
    ``folder/joint`` and ``folder/alone``; an interrupted training resumes in its phase.

    Raises
    ------
    DataError: no training user has two items, so there is nothing to predict.
    """
    check_trainable(split)
    model = Recommender(backbone, config, CodeTree.from_table(table), means, seed=options.seed)
    model.compute_dtype = pick_dtype(options.dtype, backbone.device)
    validate = _validator(model, table, split.validation, search or SearchConfig(), options)
    instruction = backbone.encode([config.prompts.sequence], max_tokens=10_000, begin=True).flat
    logs = {}
    phases = [("joint", config.joint, True)] if config.alignment else []
    for name, training, align in [*phases, ("alone", config.alone, False)]:
        texts = alignment_texts(catalogue, backbone, config) if align else None
        samples = RecommenderSamples(split.train, catalogue, texts, instruction, config, options.seed)
        label = "training the recommender" + (" with text alignment" if align else "")
        logs[name] = _phase(model, samples, training, config, folder / name, options, progress, label, validate)
    return model, logs


def _phase(
    model: Recommender,
    samples: RecommenderSamples,
    training: TrainingConfig,
    config: RecommenderConfig,
    folder: Path,
    options: RunOptions,
    progress: Progress,
    label: str,
    validate: Callable[[], Mapping[str, float]] | None,
) -> list[dict[str, float]]:
    """One phase, skipped when an earlier run finished it: its weights and log are then read back."""
    done = folder / "finished.safetensors"
    if done.exists():
        model.load_state_dict(load_file(done))
        return json.loads((folder / "log.json").read_text(encoding="utf-8"))
    sizes = [config.batch_size, config.batch_size]
    log = train(
        model,
        samples,
        samples.collate,
        BucketSampler(samples.lengths, samples.groups, sizes, seed=options.seed),
        training,
        folder,
        seed=options.seed,
        label=label,
        progress=progress,
        device=model.backbone.device,
        validate=validate,
        metric=config.validation_metric if validate else None,
    )
    save_tensors(done, model.state_dict())
    return log


def _validator(
    model: Recommender, table: CodeTable, cases: Cases, settings: SearchConfig, options: RunOptions
) -> Callable[[], Mapping[str, float]] | None:
    """Item-level Recall@10 and NDCG@10 over the whole catalogue on (a sample of) the validation users."""
    users, config = len(cases.histories), model.settings
    if users == 0:
        return None
    chosen = np.arange(users)
    if config.validation_users is not None and config.validation_users < users:
        chosen = np.sort(np.random.default_rng([options.seed, 3]).choice(users, config.validation_users, replace=False))
    histories, targets = cases.histories.select(chosen), cases.targets[chosen]

    def validate() -> Mapping[str, float]:
        dtype = pick_dtype(options.inference_dtype, model.backbone.device)
        search = BeamSearch(Decoder(model, dtype=dtype), table, settings, config.normaliser)
        items, _ = search(histories, 10)
        model.use_adapters(train=True)
        hit = items == targets[:, None]  # (users, 10): at most one true per row
        place = hit.argmax(1)
        found = hit.any(1)
        return {"recall@10": float(found.mean()), "ndcg@10": float((found / np.log2(place + 2)).mean())}

    return validate
