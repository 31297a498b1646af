"""Run as a process of its own: ``python -m tests.pipeline.fit_once FOLDER BACKBONE``."""

import sys
from pathlib import Path

import torch

torch.set_num_threads(1)

from storerec.config import RunOptions
from storerec.llm.progress import Progress
from storerec.pipeline import RunFolder, fit
from tests import worlds


def main(folder: str, backbone: str) -> None:
    catalogue, histories = worlds.data()
    phase = {"epochs": 6, "learning_rate": 3e-3, "checkpoint_steps": 3, "patience": 3}
    config = worlds.config(backbone, lora={"rank": 4, "dropout": 0.2}, joint=phase, alone=phase)
    slow = config.tokenizer.model_copy(update={"training": config.recommender.joint})
    config = config.model_copy(update={"tokenizer": slow})
    options = RunOptions(device="cpu", dtype="float32", progress=False)
    fit(RunFolder.create(Path(folder), catalogue, histories, config, options), Progress(enabled=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
