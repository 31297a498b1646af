"""SASRec as a system: training, full ranking, and files.

Why our own network and not a library's. RecTools 0.19 has a well-kept SASRec, also with full softmax, but cannot serve
here: its extra ``torch`` wants numpy below 2 on Python 3.11, pandas, pytorch-lightning and a fork of implicit, and does
not install beside this package's other dependencies; its models are saved and loaded by pickle
(``weights_only=False``); it trains on the last ``session_max_len`` items of each user only, which at 50 items leaves
out 60% of MovieLens-100K's training events. What is needed of it is the network, 60 lines on torch; windows, training
loop, exact resume and early stopping are those of the other models here, so that systems differ in nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.utils.data import Dataset

from storerec.config import RunOptions
from storerec.data.histories import Histories
from storerec.data.splits import Cases, Split, check_trainable
from storerec.errors import BundleError, DataError, TrainingError
from storerec.llm.batching import BucketSampler, Ragged
from storerec.llm.precision import check_double, pick_device
from storerec.llm.progress import Progress
from storerec.llm.training import train
from storerec.recommender.tasks import Windows
from storerec.storage import save_tensors, write_json
from storerec.systems.base import Exclusions, RankedLists, keep_first
from storerec.systems.sasrec_model import SasRecConfig, SasRecModel

_CELLS = 1 << 24
"""Most numbers (users x items, users x steps x width) computed together in ranking; bounds memory."""

_WEIGHTS, _SETTINGS = "sasrec.safetensors", "sasrec.json"


class SasRec:
    """Ranks all items by SASRec's logits after the user's last ``max_history`` items; ties by catalogue row.

    An empty history gets the scores after the learned start vector, which predicts first items of windows in training.
    Items without training events are ranked by what the softmax left them: it pushes down what never is a target.
    """

    name = "sasrec"

    def __init__(self, model: SasRecModel) -> None:
        """Take a trained model; it is switched to evaluation and computes where it is."""
        self.model = model.eval()

    def recommend(self, histories: Histories, k: int, *, exclude: Exclusions) -> RankedLists:
        """Rank the k best items for each user; see :class:`storerec.systems.base.System`.

        Raises
        ------
        DataError: an item row of a history, or an excluded one, is not in the catalogue.
        """
        n_items = self.model.n_items
        _check_rows(histories, n_items)
        banned = ~exclude.allowed(n_items)
        items = np.full((len(histories), k), -1, dtype=np.int32)
        scores = np.full((len(histories), k), -np.inf, dtype=np.float32)
        for part in self._batches(len(histories)):
            own = histories.select(part)
            found = self.scores(own)
            found[:, banned] = -np.inf
            if exclude.history:
                found[np.repeat(np.arange(len(own)), own.lengths), own.items] = -np.inf
            items[part], scores[part] = _best(found, k)
        return RankedLists(items, scores)

    def scores(self, histories: Histories) -> NDArray[np.float32]:
        """Logits of all items for each user, (users, n_items): computed in one batch."""
        recent = histories.tail(self.model.settings.max_history)
        rows, lengths = Ragged(recent.items.astype(np.int64), recent.offsets).padded(np.arange(len(recent)))
        device = self.model.items.device
        with torch.inference_mode():
            found = self.model.last_scores(torch.from_numpy(rows).to(device), torch.from_numpy(lengths).to(device))
        return found.float().cpu().numpy()  # (users, n_items)

    def _batches(self, users: int) -> Iterator[NDArray[np.int64]]:
        settings = self.model.settings
        # the widest things: scores, attention weights, and the hidden layer of the point-wise network
        steps = settings.max_history + 1
        cells = max(self.model.n_items, steps * settings.width * max(3, settings.expansion), settings.heads * steps**2)
        size = max(1, _CELLS // cells)
        return (np.arange(start, min(start + size, users)) for start in range(0, users, size))

    def save(self, folder: Path) -> None:
        """Write weights and settings into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        save_tensors(folder / _WEIGHTS, self.model.state_dict())
        write_json(folder / _SETTINGS, _settings(self.model.settings, self.model.n_items))

    @classmethod
    def load(cls, folder: Path, options: RunOptions) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        BundleError: a file is missing, damaged, or does not fit the others.
        """
        try:
            settings = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
            config = SasRecConfig.parse(settings["config"], source=str(folder / _SETTINGS))
            model = _place(SasRecModel(config, int(settings["items"])), options)
            model.load_state_dict(load_file(folder / _WEIGHTS))
        except FileNotFoundError as error:
            raise BundleError(f"{error.filename}: no such file; save the system again") from None
        except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise BundleError(f"{folder}: not a saved SASRec ({error}); save the system again") from None
        return cls(model.requires_grad_(False))


def train_sasrec(
    split: Split,
    n_items: int,
    config: SasRecConfig,
    folder: Path,
    options: RunOptions,
    progress: Progress,
) -> tuple[SasRecModel, list[dict[str, float]]]:
    """Train SASRec on ``split.train``; return it, ready to rank, with its log (losses and validations).

    Every training item is a target once an epoch, in windows of at most ``max_history + 1`` items that are cut at
    other places each epoch. The weights of the best validation NDCG@10 over the whole catalogue are kept. Weights are
    float32, or float64 by ``options.dtype``; the network is too small to gain from bfloat16. An interrupted training
    resumes in ``folder`` and ends where an unbroken one would; a finished one is read back.

    Raises
    ------
    DataError: no training user has two items, or a row is not below ``n_items``.
    TrainingError: ``folder`` holds the training of other settings, or the loss is not finite.
    """
    check_trainable(split)
    for histories in (split.train, split.validation.histories):
        _check_rows(histories, n_items)
    model = _place(SasRecModel(config, n_items, seed=options.seed), options)
    _claim(folder, config, n_items, options)
    done = folder / "finished.safetensors"
    if done.exists():
        model.load_state_dict(load_file(done))
        return model.requires_grad_(False).eval(), json.loads((folder / "log.json").read_text(encoding="utf-8"))
    samples = _Samples(split.train, config, options.seed)
    validate = _validator(model, split.validation, options.seed)
    excluding = "_excluding" if config.validation_excludes_history else ""
    log = train(
        model,
        samples,
        samples.collate,
        BucketSampler(samples.lengths, np.zeros(len(samples), np.int64), [config.batch_size], seed=options.seed),
        config.training,
        folder,
        seed=options.seed,
        label="training SASRec",
        progress=progress,
        device=model.items.device,
        validate=validate,
        metric=f"ndcg@10{excluding}" if validate else None,
    )
    save_tensors(done, model.state_dict())
    return model, log


class _Samples(Dataset):
    """Windows of the training histories."""

    def __init__(self, train: Histories, config: SasRecConfig, seed: int) -> None:
        self.windows = Windows(train, config.max_history + 1, only_last=False, jitter=True, seed=seed)
        self.items = train.items.astype(np.int64)
        self.lengths = np.zeros(len(self.windows.cut(0)[0]), np.int64)
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Cut the windows of ``epoch``; ``lengths`` changes in place, because the sampler holds it."""
        self.starts, ends = self.windows.cut(epoch)
        self.lengths[:] = ends - self.starts

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, chosen: list[int]) -> dict[str, torch.Tensor]:
        """Windows as arguments of the model, padded on the right."""
        starts, lengths = self.starts[chosen], self.lengths[chosen]
        columns = np.arange(int(lengths.max()))
        places = np.where(columns < lengths[:, None], starts[:, None] + columns, 0)  # (windows, longest)
        return {"items": torch.from_numpy(self.items[places]), "lengths": torch.from_numpy(lengths)}


def _validator(model: SasRecModel, cases: Cases, seed: int) -> Callable[[], Mapping[str, float]] | None:
    """Recall@10 and NDCG@10 over the whole catalogue, with the user's own history in it and without."""
    if len(cases) == 0:
        return None
    most = model.settings.validation_users
    if most is not None and most < len(cases):
        cases = cases.select(np.sort(np.random.default_rng([seed, 3]).choice(len(cases), most, replace=False)))

    def validate() -> Mapping[str, float]:
        measured = {}
        for name, excluding in (("", False), ("_excluding", True)):
            items = SasRec(model).recommend(cases.histories, 10, exclude=Exclusions(history=excluding)).items
            hit = items == cases.targets[:, None]  # (users, 10): at most one true per row
            measured[f"recall@10{name}"] = float(hit.any(1).mean())
            measured[f"ndcg@10{name}"] = float((hit.any(1) / np.log2(hit.argmax(1) + 2)).mean())
        return measured

    return validate


def _best(scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k best columns of each row, best first, ties by column, without -inf: items and scores (rows, k)."""
    users, n_items = scores.shape
    places = max(0, n_items - k)
    threshold = np.partition(scores, places, axis=1)[:, places]  # the k-th best; ties with it may be more than k
    user, item = np.nonzero((scores >= threshold[:, None]) & np.isfinite(scores))
    order = np.lexsort((item, -scores[user, item], user))
    user, item = user[order], item[order]
    counts = np.bincount(user, minlength=users)
    column = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
    width = int(counts.max(initial=0))
    candidates, values = np.zeros((users, width), np.int32), np.zeros((users, width), np.float32)
    candidates[user, column], values[user, column] = item, scores[user, item]
    return keep_first(candidates, values, np.arange(width) < counts[:, None], k)


def _check_rows(histories: Histories, n_items: int) -> None:
    highest = int(histories.items.max(initial=-1))
    if highest >= n_items:
        raise DataError(f"histories hold item row {highest}, but there are {n_items} items")


def _place(model: SasRecModel, options: RunOptions) -> SasRecModel:
    device = pick_device(options)
    return (model.double() if check_double(options, device) else model).to(device)


def _settings(config: SasRecConfig, n_items: int) -> dict[str, object]:
    return {"items": n_items, "config": config.model_dump(mode="json")}


def _claim(folder: Path, config: SasRecConfig, n_items: int, options: RunOptions) -> None:
    """Note the settings a folder's training is of, or raise TrainingError when it is of others."""
    own = _settings(config, n_items) | {"seed": options.seed}
    place = folder / "settings.json"
    if place.exists() and json.loads(place.read_text(encoding="utf-8")) != own:
        raise TrainingError(f"{place}: the folder holds the training of other settings; take another folder")
    write_json(place, own)
