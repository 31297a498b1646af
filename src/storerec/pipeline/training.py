"""The two trainings of a run, as work that several processes may do together."""

from __future__ import annotations

from dataclasses import dataclass

from storerec.llm import processes
from storerec.llm.progress import Progress
from storerec.pipeline.clustering import cluster_means
from storerec.pipeline.folder import RunFolder
from storerec.recommender import train_recommender
from storerec.storage import save_tensors
from storerec.tokenizer import train_tokenizer


@dataclass(frozen=True)
class TrainTokenizer:
    """Trains a run's dense tokenizer and keeps it in the folder."""

    run: RunFolder

    def __call__(self, progress: Progress) -> None:
        """Train, in all processes; the first writes."""
        run = self.run
        model, _ = train_tokenizer(
            run.catalogue, run.backbone, run.config.tokenizer, run.work("tokenizer"), run.options, progress
        )
        if processes.is_first():
            save_tensors(run.file("tokenizer"), model.state_dict())
        run.__dict__["tokenizer"] = model  # what the cached property would load
        processes.barrier()


@dataclass(frozen=True)
class TrainRecommender:
    """Trains a run's recommender on the training part of the split and keeps it in the folder."""

    run: RunFolder

    def __call__(self, progress: Progress) -> None:
        """Train, in all processes; the first writes."""
        run = self.run
        model, _ = train_recommender(
            run.catalogue,
            run.split,
            run.table,
            cluster_means(run),
            run.tokenizer.backbone,  # with the tokenizer's adapter: the recommender starts from its weights
            run.config.recommender,
            run.work("recommender"),
            run.options,
            progress,
            search=run.config.search,
        )
        if processes.is_first():
            save_tensors(run.file("recommender"), model.state_dict())
        run.__dict__["recommender"] = model
        processes.barrier()
