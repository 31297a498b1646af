"""Training samples: windows of histories, and items' codes with text (docs/method.md, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from storerec.data.histories import Histories
from storerec.errors import ConfigError
from storerec.llm.backbone import Backbone
from storerec.recommender.alignment import TextTask
from storerec.recommender.config import RecommenderConfig
from storerec.recommender.history import tokens_of_item

SEQUENCE = 0
"""Group of the windows; those of alignment tasks follow in their order."""


@dataclass(frozen=True)
class Windows:
    """Cuts of histories into windows of at most ``size`` items; every item lies in exactly one.

    Cuts stand ``size`` apart after a first one whose place changes each epoch (with ``jitter``); the number of a
    user's windows does not, so that training can resume at a batch number.

    Attributes
    ----------
    size: items per window at most: ``max_history`` + 1.
    only_last: one window per user instead, ending at the last item.
    """

    histories: Histories
    size: int
    only_last: bool
    jitter: bool
    seed: int

    def _first_cuts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lowest and highest place of the first cut, and the number of windows: (users,) each.

        A first cut after ``rest`` items leaves ``ceil(n / size)`` windows for cuts from ``rest`` to ``size`` and one
        more for cuts below ``rest``. The wider of the two ranges is taken.
        """
        n, size = self.histories.lengths.astype(np.int64), self.size
        rest = np.where(n > 0, (n - 1) % size + 1, 0)
        counts = -(-n // size)
        if not self.jitter:
            return rest, rest, np.where(n < 2, 0, counts)
        several = n > size
        more = several & (rest > size // 2 + 2)
        low = np.where(more, 2, np.where(several, np.maximum(rest, 2), rest))
        high = np.where(more, rest - 2, np.where(several, size, rest))
        return low, np.maximum(high, low), np.where(n < 2, 0, counts + more)

    def cut(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Start and end (windows,) of each window in ``histories.items``, in order of users."""
        low, high, counts = self._first_cuts()
        lengths, offsets = self.histories.lengths.astype(np.int64), self.histories.offsets[:-1]
        if self.only_last:
            users = np.flatnonzero(lengths >= 2)
            end = offsets[users] + lengths[users]
            return end - np.minimum(lengths[users], self.size), end
        first = np.random.default_rng([self.seed, epoch, 2]).integers(low, high + 1)
        user = np.repeat(np.arange(len(counts)), counts)
        number = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
        end = np.minimum(first[user] + number * self.size, lengths[user])
        begin = np.where(number > 0, first[user] + (number - 1) * self.size, 0)
        return offsets[user] + begin, offsets[user] + end


class RecommenderSamples(Dataset):
    """Samples of all tasks in one index space: windows of ``histories`` first, then each of ``tasks``."""

    def __init__(
        self,
        histories: Histories,
        tasks: Sequence[TextTask],
        instruction: np.ndarray,
        config: RecommenderConfig,
        seed: int,
    ) -> None:
        only_last = config.loss_positions == "last"
        self.windows = Windows(histories, config.max_history + 1, only_last, config.jitter, seed)
        self.tasks, self.instruction, self.config = tuple(tasks), instruction, config
        self.items = np.append(histories.items, 0).astype(np.int64)
        count = len(self.windows.cut(0)[0])
        self.lengths = np.concatenate([np.zeros(count, np.int64), *(task.lengths for task in self.tasks)])
        self.set_epoch(0)
        sizes = [count, *(len(task) for task in self.tasks)]
        self.firsts = np.cumsum(sizes) - sizes  # (groups,) the first sample of each
        self.groups = np.repeat(np.arange(len(sizes)), sizes).astype(np.int64)

    def set_epoch(self, epoch: int) -> None:
        """Cut the windows of ``epoch``; ``lengths`` changes in place, so that a sampler that holds it sees it."""
        self.starts, self.ends = self.windows.cut(epoch)
        self.lengths[: len(self.starts)] = self.ends - self.starts

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, chosen: list[int]) -> dict[str, torch.Tensor]:
        """A batch of one task as tensors for :meth:`Recommender.forward`."""
        rows = np.asarray(chosen)
        group = int(self.groups[rows[0]])
        batch = self._text(self.tasks[group - 1], rows - self.firsts[group]) if group else self._sequence(rows)
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in batch.items()}

    def _sequence(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        starts, counts = self.starts[rows], self.ends[rows] - self.starts[rows]
        columns = np.arange(int(counts.max()))
        inside = columns < counts[:, None]
        items = self.items[np.where(inside, starts[:, None] + columns, len(self.items) - 1)]
        last = columns == counts[:, None] - 1
        return {
            "context": np.tile(self.instruction, (len(rows), 1)),
            "context_lengths": np.full(len(rows), len(self.instruction)),
            "items": items,
            "targets": last if self.config.loss_positions == "last" else inside,
        }

    def _text(self, task: TextTask, rows: np.ndarray) -> dict[str, np.ndarray]:
        context, lengths = task.contexts.padded(rows)
        batch = {
            "context": context,
            "context_lengths": lengths,
            "items": task.items[rows][:, None],
            "targets": np.full((len(rows), 1), task.answers is None),
        }
        if task.answers is not None:
            batch["answers"], batch["answer_lengths"] = task.answers.padded(rows)
        return batch


def check_room(backbone: Backbone, config: RecommenderConfig, positions: int) -> None:
    """Raise ConfigError when the longest sequence, of ``positions`` codes an item, is longer than the model reads."""
    limit = backbone.max_positions
    prompts = config.prompts
    words, question, asked, listed = (
        len(backbone.encode([text], max_tokens=10_000, begin=begin).flat)
        for text, begin in (
            (prompts.sequence, True),
            (prompts.alignment_after, False),
            (prompts.describe, True),
            (prompts.titles, True),
        )
    )
    read = tokens_of_item(positions, config.history)
    history = words + config.max_history * read + positions - 1  # the last code is only predicted
    tasks = config.alignment_tasks if config.alignment else ()
    needs = {
        "max_history": history,
        "alignment_tokens": max(
            config.alignment_tokens + question + positions - 1 if "text_to_codes" in tasks else 0,
            asked + positions + config.alignment_tokens if "codes_to_text" in tasks else 0,
        ),
        "history_tokens": listed + config.history_tokens + question + positions if "titles_to_codes" in tasks else 0,
    }
    for name, need in needs.items():
        if limit is not None and need > limit:
            raise ConfigError(
                f"recommender.{name}: its sequences take up to {need} positions, "
                f"but {backbone.config.name} reads {limit}"
            )
