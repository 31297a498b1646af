"""Training in the workers of a cluster ends the same whoever of them is killed."""

import json
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from storerec.errors import ConfigError, RowError, TrainingError
from storerec.llm import processes
from storerec.llm.progress import Progress
from storerec.scale import RayConfig
from storerec.scale.training import train_on_ray
from storerec.storage import save_tensors, write_json
from tests.llm import together
from tests.scale.cluster import kill, raylets, wait_for, workers_of

STEPS, HELD = 12, 8
DROPPED = {"dropout": 0.2, "lora": {"rank": 4, "dropout": 0.1}, "alignment": False}
"""What is dropped in training is drawn at random, so that random states have to come back, too."""


class Holding(Progress):
    """Bars of a training that stops for ever after some steps, so that it can be broken off in its midst."""

    def __init__(self, shown):
        super().__init__(enabled=False)
        self.shown = shown

    def start(self, *args, **kwargs):
        return self.shown.start(*args, **kwargs)

    def advance(self, bar, amount=1):
        self.shown.advance(bar, amount)
        while bar.done == HELD:
            time.sleep(0.1)


@dataclass(frozen=True)
class Training:
    """What the workers do; the first one keeps the result in ``folder``."""

    folder: Path
    holds: bool = True

    def __call__(self, progress):
        again = bool(self.checkpoints())
        processes.barrier()
        logs, weights = together.recommender(
            self.folder, "llama", progress=Holding(progress) if self.holds and not again else progress,
            settings=DROPPED, max_steps=STEPS, checkpoint_steps=3, average=0.9, patience=None,
        )  # fmt: skip
        if processes.is_first():
            write_json(self.folder / "logs.json", logs)
            save_tensors(self.folder / "weights.safetensors", weights | {"processes": torch.tensor(processes.world())})

    def checkpoints(self):
        return list(self.folder.rglob("checkpoint-*/whole"))


class Seen(Progress):
    """A silent progress that notes where bars begin and end."""

    def __init__(self):
        super().__init__(enabled=False)
        self.begun, self.ended = [], []

    def start(self, label, total, *, done=0, unit="item"):
        self.begun.append(done)
        return super().start(label, total, done=done, unit=unit)

    def finish(self, bar):
        self.ended.append((bar.done, bar.total, bar.note))
        super().finish(bar)


class Later:
    """Does something in a thread as soon as something else holds."""

    def __init__(self, ready, act):
        self.done, self._ready, self._act = False, ready, act
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        wait_for(self._ready, seconds=600)
        self._act()
        self.done = True

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._thread.join(60)


@pytest.fixture(scope="module")
def folders(tiny_backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    (folder / "backbones").mkdir()
    (folder / "backbones" / "llama").symlink_to(tiny_backbone("llama"))
    return folder


@pytest.fixture(scope="module")
def unbroken(cluster, folders):
    training, seen = Training(folders / "unbroken", holds=False), Seen()
    train_on_ray(RayConfig(address=cluster.address), training, seen)
    assert seen.begun == [0]
    [(done, total, note)] = seen.ended
    assert done == total == STEPS
    assert "ndcg@10" in note
    return training


def assert_equal(training, unbroken, *, workers=2):
    found, expected = (load_file(one.folder / "weights.safetensors") for one in (training, unbroken))
    assert found.pop("processes") == workers
    assert expected.pop("processes") == 2
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    logs, others = (json.loads((one.folder / "logs.json").read_text()) for one in (training, unbroken))
    assert logs == others


def test_a_killed_worker_changes_no_bit(cluster, folders, unbroken):
    training, seen = Training(folders / "killed"), Seen()
    with Later(training.checkpoints, lambda: kill(random.Random(3).choice(workers_of("RayTrainWorker")))) as killing:
        train_on_ray(RayConfig(address=cluster.address), training, seen)
    assert killing.done
    assert len(seen.begun) == 2
    assert 0 < seen.begun[1] < HELD
    assert_equal(training, unbroken)


def test_an_error_of_a_worker_is_that_of_the_training(cluster, tmp_path):
    def training(progress):
        (tmp_path / f"{processes.rank()}-{os.getpid()}").touch()
        processes.barrier()
        if processes.rank() == 1:
            raise RowError("no number", file="events.csv", line=3, field="timestamp")
        processes.barrier()

    with pytest.raises(RowError, match=r"events.csv, line 3, field 'timestamp': no number") as told:
        train_on_ray(RayConfig(address=cluster.address), training, Progress(enabled=False))
    assert told.value.line == 3
    assert len(list(tmp_path.iterdir())) == 2, "nothing is tried again"


def test_more_workers_than_fit_are_an_error(cluster):
    with pytest.raises(ConfigError, match=r"5 workers of 1 CPU each, but the cluster has room for 4; ask for fewer"):
        train_on_ray(RayConfig(address=cluster.address, workers=5), print, Progress(enabled=False))


needs_time = pytest.mark.skipif("STOREREC_LONG_TESTS" not in os.environ, reason="set STOREREC_LONG_TESTS=1")


@needs_time
def test_workers_lost_too_often_end_training(cluster):
    def training(progress):
        os.kill(os.getpid(), 9)

    with pytest.raises(TrainingError, match="begun 2 times") as told:
        train_on_ray(RayConfig(address=cluster.address, attempts=1), training, Progress(enabled=False))
    assert "\n" not in str(told.value)


@needs_time
@pytest.mark.parametrize(
    ("nodes", "comes", "fewest", "left"), [(3, 0, None, 2), (2, 1, None, 2), (2, 0, 1, 1)],
    ids=["spare", "replaced", "fewer"],
)  # fmt: skip
def test_training_goes_on_without_a_lost_node(folders, unbroken, nodes, comes, fewest, left):
    training, seen = Training(folders / f"node-lost-{nodes}-{comes}"), Seen()
    with raylets(nodes, cpus=1) as cluster, ThreadPoolExecutor(1) as pool:
        config = RayConfig(address=cluster.address, min_workers=fewest)
        ended = pool.submit(train_on_ray, config, training, seen)  # nodes are begun in the main thread only
        wait_for(training.checkpoints, seconds=120)
        node = next(one for one in cluster.worker_nodes if workers_of("RayTrainWorker", one))
        cluster.remove_node(node, allow_graceful=False)
        for _ in range(comes):
            cluster.add_node(num_cpus=1)
        ended.result(300)
    assert 0 < seen.begun[1] < STEPS
    if left == 2:
        assert_equal(training, unbroken)
    else:
        assert load_file(training.folder / "weights.safetensors")["processes"] == 1
