"""Training the Transformer: samples from histories, and the run of the shared loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from storerec.codes import CodeTable, CodeTree
from storerec.config import RunOptions
from storerec.data.histories import Histories
from storerec.data.splits import Split, check_trainable
from storerec.llm.precision import check_double, pick_device, pick_dtype
from storerec.llm.progress import Progress
from storerec.recommender.config import SearchConfig
from storerec.recommender.tasks import Windows
from storerec.recommender.training import Phase, run_phase, sample_cases, validator
from storerec.recommender.transformer import TransformerRecommender
from storerec.recommender.transformer_config import TransformerConfig
from storerec.recommender.transformer_decoder import TransformerDecoder


class TransformerSamples(Dataset):
    """Runs of at most ``max_history`` + 1 items of one user, whose targets are all its items or its last one.

    With the causal encoder a sample is a window, and each of its items is a target given the window's items before
    it, the first one given none. Otherwise a sample is one target with the ``max_history`` items before it: every
    item of every user is one, or each epoch draws one of every ``max_history`` in a row (``config.draw``). The
    number of samples never changes, so that training can resume at a batch number.
    """

    def __init__(self, histories: Histories, config: TransformerConfig, seed: int) -> None:
        self.histories, self.config, self.seed = histories, config, seed
        self.last_only = config.encoder == "bidirectional" or config.loss_positions == "last"
        only_last = config.loss_positions == "last"
        self.windows = Windows(histories, config.max_history + 1, only_last, config.jitter, seed)
        self.items = np.append(histories.items, 0).astype(np.int64)
        self.starts, self.ends = self._runs(0)
        self.lengths = self.ends - self.starts
        self.groups = np.zeros(len(self.starts), np.int64)

    def set_epoch(self, epoch: int) -> None:
        """Draw the samples of ``epoch``; ``lengths`` changes in place, so that a sampler that holds it sees it."""
        self.starts, self.ends = self._runs(epoch)
        self.lengths[:] = self.ends - self.starts

    def _runs(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Start and end (samples,) of each run in ``histories.items``."""
        if self.config.encoder == "causal" or self.config.loss_positions == "last":
            return self.windows.cut(epoch)
        size, counts = self.config.max_history, self.histories.lengths
        counts = np.where(counts < 2, 0, counts)  # as everywhere: who has one item trains nothing
        parts = counts if self.config.draw == "all" else -(-counts // size)
        user = np.repeat(np.arange(len(counts)), parts)
        number = np.arange(len(user)) - np.repeat(np.cumsum(parts) - parts, parts)
        if self.config.draw == "one":
            here = np.minimum(size, counts[user] - number * size)  # items in this stretch of the user's
            number = number * size + np.random.default_rng([self.seed, epoch, 4]).integers(0, here)
        first = self.histories.offsets[:-1][user]
        return first + np.maximum(number - size, 0), first + number + 1

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, chosen: list[int]) -> dict[str, torch.Tensor]:
        """A batch as tensors for :meth:`TransformerRecommender.forward`."""
        rows = np.asarray(chosen)
        starts, counts = self.starts[rows], self.ends[rows] - self.starts[rows]
        columns = np.arange(int(counts.max()))
        inside = columns < counts[:, None]
        run = self.items[np.where(inside, starts[:, None] + columns, len(self.items) - 1)]  # (rows, longest)
        several = not self.last_only
        batch = {
            "items": run[:, :-1],  # a run's last item is predicted only
            "lengths": counts - 1,
            "targets": run if several else self.items[self.ends[rows] - 1][:, None],
            "visible": np.minimum(columns, (counts - 1)[:, None]) if several else (counts - 1)[:, None],
            "told": inside if several else np.ones((len(rows), 1), bool),
        }
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in batch.items()}


def train_transformer(
    split: Split,
    table: CodeTable,
    config: TransformerConfig,
    folder: Path,
    options: RunOptions,
    progress: Progress,
    *,
    search: SearchConfig | None = None,
) -> tuple[TransformerRecommender, dict[str, list[dict[str, float]]]]:
    """Train a Transformer on ``split.train`` and return it with the log of its one phase, ``training``.

    Checkpoints go to ``folder/training``; an interrupted training resumes there. ``search`` is that of validation.

    Raises
    ------
    DataError: no training user has two items, so there is nothing to predict.
    """
    check_trainable(split)
    device = pick_device(options)
    model = TransformerRecommender(CodeTree.from_table(table), config, device=device, seed=options.seed)
    if check_double(options, device):
        model.double()
    model.compute_dtype = pick_dtype(options.dtype, device)
    samples = TransformerSamples(split.train, config, options.seed)
    validate = validator(
        lambda: TransformerDecoder(model, dtype=pick_dtype(options.inference_dtype, device)),
        table,
        sample_cases(split.validation, config.validation_users, options.seed),
        search or SearchConfig(),
        config.normaliser,
        exclude_history=config.validation_excludes_history,
    )
    phase = Phase(
        "training the Transformer", folder / "training", config.training, config.batch_size, config.validation_metric
    )
    return model, {"training": run_phase(model, samples, phase, options, progress, device, validate)}
