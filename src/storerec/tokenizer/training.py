"""Training the dense tokenizer on a catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.errors import ConfigError
from storerec.llm.backbone import Backbone, pad_ids
from storerec.llm.batching import BucketSampler
from storerec.llm.precision import pick_dtype
from storerec.llm.progress import Progress
from storerec.tokenizer.config import TokenizerConfig
from storerec.tokenizer.model import DenseTokenizer
from storerec.tokenizer.samples import Attributes, TokenizerSamples


class _Items(Dataset):
    """Item rows; the work is done by the collate function on whole batches."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> int:
        return int(self.rows[index])


def train_tokenizer(
    catalogue: Catalogue,
    backbone: Backbone,
    config: TokenizerConfig,
    folder: Path,
    options: RunOptions,
    progress: Progress,
) -> tuple[DenseTokenizer, list[dict[str, float]]]:
    """Post-pretrain a dense tokenizer on ``catalogue`` (paper, 3.1) and return it with its log.

    Checkpoints go to ``folder``; an interrupted training resumes from there.
    """
    from storerec.llm.training import train  # here: it imports transformers, which reading a bundle does without

    check_room(backbone, config)
    config = Attributes.choose(catalogue.attributes, config).named(config)
    samples = TokenizerSamples.build(catalogue, backbone, config)
    model = DenseTokenizer(backbone, config, samples.tasks, seed=options.seed)
    model.compute_dtype = pick_dtype(options.dtype, backbone.device)
    rows = _training_rows(len(catalogue), config, options.seed)
    model.calibrate(*pad_ids(samples.content, rows[: config.batch_items], backbone.device))
    sampler = BucketSampler(
        samples.content.lengths[rows], np.zeros(len(rows), np.int64), [config.batch_items], seed=options.seed
    )
    log = train(
        model,
        _Items(rows),
        lambda chosen: collate(samples, np.asarray(chosen)),
        sampler,
        config.training,
        folder,
        seed=options.seed,
        label="training the dense tokenizer",
        progress=progress,
        device=backbone.device,
        sharded=options.sharded,
    )
    return model, log


def _training_rows(items: int, config: TokenizerConfig, seed: int) -> np.ndarray:
    if config.train_items is None or config.train_items >= items:
        return np.arange(items)
    return np.sort(np.random.default_rng(seed).choice(items, config.train_items, replace=False))


def check_room(backbone: Backbone, config: TokenizerConfig) -> None:
    """Raise ConfigError when the longest four-block sequence has more positions than the model can index."""
    need = config.max_content_tokens + 2 * config.dense_tokens + config.max_task_tokens + 1  # 1: the task token
    if backbone.max_positions is not None and need > backbone.max_positions:
        raise ConfigError(
            f"tokenizer: max_content_tokens + 2 x dense_tokens + max_task_tokens + 1 is {need}, "
            f"but {backbone.config.name} reads {backbone.max_positions} positions"
        )


def collate(samples: TokenizerSamples, rows: np.ndarray) -> dict[str, Any]:
    """A batch of items with all their non-empty tasks, as tensors for :meth:`DenseTokenizer.forward`."""
    content, lengths = samples.content.padded(rows)
    grid = rows[:, None] * samples.tasks + np.arange(samples.tasks)  # (items, m) rows of the answers
    item, task = np.nonzero(samples.answers.lengths[grid] > 0)
    answer, answer_lengths = samples.answers.padded(grid[item, task])
    arrays = {
        "content": content,
        "content_lengths": lengths,
        "task_item": item,
        "task": task,
        "answer": answer,
        "answer_lengths": answer_lengths,
    }
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
