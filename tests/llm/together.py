"""Trainings that several processes do together, to be compared with one process that does them alone.

Run as ``python -m torch.distributed.run --standalone --nproc_per_node 2 -m tests.llm.together FOLDER NAME...``: trains
what the names say into ``FOLDER/NAME``, and the first process writes ``result.json`` and ``weights.safetensors`` there.
"""

import gc
import os
import sys
from pathlib import Path

import numpy as np

from storerec.codes import CodeTable
from storerec.config import RunOptions
from storerec.data.splits import leave_one_out
from storerec.errors import TrainingError
from storerec.llm import processes
from storerec.llm.backbone import Backbone, BackboneConfig
from storerec.llm.layers import layer_list
from storerec.llm.progress import Progress
from storerec.recommender import RecommenderConfig, SearchConfig, train_recommender
from storerec.storage import save_tensors, write_json
from storerec.tokenizer import TokenizerConfig, train_tokenizer
from tests import worlds
from tests.llm import others
from tests.llm.test_training import Number, run

ITEMS = 21
"""In batches of 5 the last has one item, so that one of two processes has none."""

PHASE = {"max_steps": 5, "learning_rate": 3e-3, "schedule": "linear", "checkpoint_steps": 2, "weight_decay": 0.01}
ALL_TASKS = {"alignment": True, "alignment_tasks": ["text_to_codes", "codes_to_text", "titles_to_codes"]}
ITEM_ROWS = {"history": "items", "item_rows": True, "item_rank": 4, "code_rank": 3, "layers": 2, "alignment": False}
RECOMMENDERS = {
    "llama": ALL_TASKS | {"normaliser": "vocabulary"},
    "opt": {"alignment": False, "loss_positions": "last", "normaliser": "children"},
    "gpt2": {"alignment": False, "tie_codes": False, "layers": 2},
    "qwen": ITEM_ROWS,
}


def tokenizer(folder, family, sharded=False, **training):
    """Train a dense tokenizer; its log and weights."""
    catalogue, _ = worlds.data(30, ITEMS)
    config = TokenizerConfig(
        dense_tokens=3, lora={"rank": 4}, batch_items=5, training=PHASE | {"average": 0.8} | training
    )
    held = Held(backbone(folder, family))
    model, log = train_tokenizer(catalogue, held.backbone, config, folder / "work", options(sharded), held)
    return {"log": log, "held": held.counts}, model.state_dict()


class Held(Progress):
    """Notes how many numbers of the backbone this process holds after a step."""

    def __init__(self, backbone):
        super().__init__(enabled=False)
        self.backbone = backbone
        layers = layer_list(backbone.base)[1]
        self.counts = {"all": self.numbers(), "layers": sum(one.numel() for one in layers.parameters())}

    def numbers(self):
        own = [one for name, one in self.backbone.base.named_parameters() if ".lora_" not in name]
        parts = [one.to_local() for one in gc.get_objects() if type(one).__name__ == "DTensor"]
        return sum(one.numel() for one in own + parts)

    def advance(self, bar, amount=1):
        self.counts["training"] = self.numbers()


def recommender(folder, family, sharded=False, *, progress=None, settings=None, **training):
    """Train a recommender with validation; its logs and weights."""
    catalogue, histories = worlds.data(30, ITEMS)
    codes = np.unique(np.random.default_rng(0).integers(0, 4, (200, 3)), axis=0)[:ITEMS].astype(np.int32)
    phase = PHASE | {"patience": 3} | training
    config = RecommenderConfig.parse(
        {"max_history": 6, "lora": {"rank": 4}, "batch_size": 7, "joint": phase, "alone": phase, "dropout": 0.0}
        | RECOMMENDERS[family]
        | (settings or {})
    )
    model, logs = train_recommender(
        catalogue, leave_one_out(histories), CodeTable.build(codes, (4, 4, 4)), None, backbone(folder, family), config,
        folder / "work", options(sharded), progress or Progress(enabled=False), search=SearchConfig(beam=8),
    )  # fmt: skip
    return logs, model.state_dict()


def unseen(folder):
    """Train where the second process looks for the folder elsewhere; the error of each."""
    before = Path.cwd()
    elsewhere = folder / f"place-{processes.rank()}"
    elsewhere.mkdir(parents=True)
    os.chdir(elsewhere)
    try:
        run(Path("checkpoints"), Number())
    except TrainingError as error:
        return {"errors": processes.gathered(str(error))}, {}
    finally:
        os.chdir(before)


def backbone(folder, family):
    return Backbone.load(BackboneConfig(name=str(folder.parent / "backbones" / family)), options())


def options(sharded=False):
    return RunOptions(device="cpu", dtype="float64", inference_dtype="float64", sharded=sharded, progress=False)


def made(folder, name):
    """Do the training ``KIND-FAMILY[-trio][-sharded][-begun]``; one that is only begun ends after its first step.

    Of a trio, three samples, two processes have shares of two and of one.
    """
    if name == "unseen":
        return unseen(folder / name)
    kind, family, *ways = name.split("-")
    if kind in others.KINDS:
        return others.KINDS[kind](
            PHASE, folder / name / "work", backbone(folder / name, family), options(), Progress(enabled=False)
        )
    stop = {"max_minutes": 0} if "begun" in ways else {}
    more = {"settings": {"batch_size": 3}} if "trio" in ways else {}
    return {"tokenizer": tokenizer, "recommender": recommender}[kind](
        folder / name, family, sharded="sharded" in ways, **more, **stop
    )


def main(folder, *names):
    for name in names:
        logs, weights = made(Path(folder), name)
        if processes.is_first():
            write_json(Path(folder) / name / "result.json", logs)
            save_tensors(Path(folder) / name / "weights.safetensors", weights)
    processes.leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
    processes.end(0)
