"""Checkpoints of a training: which one to go on from, and the weights of a training that was over."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetensors.torch import load_file

from storerec.llm.averaging import AVERAGE
from storerec.llm.callbacks import ENDED, WHOLE
from storerec.llm.trainable import TrainableModule
from storerec.storage import write_json


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; half-written ones are deleted."""
    folder.mkdir(parents=True, exist_ok=True)
    for checkpoint in folder.glob("checkpoint-*"):
        if not (checkpoint / WHOLE).exists():
            shutil.rmtree(checkpoint)
    whole = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    return whole[-1] if whole else None


def has_ended(checkpoint: Path) -> bool:
    """Whether training was over with this checkpoint."""
    return (checkpoint / WHOLE).read_text(encoding="utf-8") == ENDED


def point_to_best(last: Path) -> None:
    """Let a checkpoint's state name the best checkpoint where it is now: the folder may have moved."""
    place = last / "trainer_state.json"
    state = json.loads(place.read_text(encoding="utf-8"))
    if best := state["best_model_checkpoint"]:
        state["best_model_checkpoint"] = str(last.parent / Path(best).name)
        write_json(place, state)


def take_ended(model: TrainableModule, last: Path) -> list[dict[str, float]]:
    """Weights and log of a training that was over when its process ended: one more step would change them."""
    state = json.loads((last / "trainer_state.json").read_text(encoding="utf-8"))
    best = state["best_model_checkpoint"]
    chosen = last.parent / Path(best).name if best else last  # the folder may have moved
    average = chosen / AVERAGE
    model.load_state_dict(load_file(average if average.is_file() else chosen / "model.safetensors"))
    return state["log_history"]
