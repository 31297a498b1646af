"""Encoding, clustering and evaluating on a cluster of two raylets: what the local engine gives, whoever is killed."""

import random
import shutil
import threading

import numpy as np
import pytest

from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.errors import ConfigError, DataError
from storerec.llm.progress import Progress
from storerec.pipeline import RunFolder, evaluate_run, fit, tokenize
from storerec.pipeline import cluster as cluster_stage
from storerec.scale import RayConfig
from storerec.scale.engine import RayEngine
from tests import worlds
from tests.scale.cluster import kill, raylets, wait_for, workers_of

OPTIONS, QUIET = RunOptions(device="cpu", dtype="float32", progress=False), Progress(enabled=False)
ITEMS, CHUNK = 480, 4
CHUNKS = ITEMS // CHUNK


@pytest.fixture(scope="module")
def local(tiny_backbone, tmp_path_factory):
    """A finished run of the local engine, encoded in many small chunks."""
    catalogue = Catalogue.from_frame(worlds.items(ITEMS))
    histories = Histories.from_events(worlds.events(40, ITEMS), catalogue)
    config = worlds.config(tiny_backbone("llama"))
    tokenizer = config.tokenizer.model_copy(update={"encode_chunk": CHUNK})
    config = config.model_copy(update={"tokenizer": tokenizer})
    run = RunFolder.create(tmp_path_factory.mktemp("local") / "run", catalogue, histories, config, OPTIONS)
    fit(run, QUIET)
    return run


def begun(local, folder):
    """The run with its tokenizer trained, and nothing encoded yet."""
    shutil.copytree(local.path / "data", folder / "data")
    shutil.copy(local.path / "run.json", folder / "run.json")
    (folder / "stages").mkdir()
    shutil.copy(local.file("tokenizer"), folder / "stages")
    return RunFolder.open(folder, OPTIONS)


def same(run, local):
    np.testing.assert_array_equal(run.dense.whole(), local.dense.whole())
    for name in ("clusterer", "table", "means"):
        ours, theirs = run.arrays(name), local.arrays(name)
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours), name
    assert (run.path / "clustering.json").read_text() == (local.path / "clustering.json").read_text()
    return True


def test_every_stage_gives_what_the_local_engine_gives(cluster, local, tmp_path):
    run = begun(local, tmp_path / "run")
    with RayEngine.started(RayConfig(address=cluster.address)) as engine:
        tokenize(run, QUIET, engine)
        cluster_stage(run, QUIET, engine)
        assert same(run, local)
        shutil.copy(local.file("recommender"), run.file("recommender"))
        found = evaluate_run(run, plots=False, engine=engine).to_json()
    expected = evaluate_run(local, plots=False).to_json()
    for result in (found, expected):
        for system in result["systems"].values():
            del system["seconds"]
    assert found == expected


def test_a_killed_worker_changes_nothing(cluster, local, tmp_path):
    run = begun(local, tmp_path / "run")
    with RayEngine.started(RayConfig(address=cluster.address)) as engine:
        with Killer(run, 5) as killer:
            tokenize(run, QUIET, engine)
        assert 5 <= killer.stood < CHUNKS
        cluster_stage(run, QUIET, engine)
    assert same(run, local)


def test_a_lost_node_changes_nothing(local, tmp_path):
    run = begun(local, tmp_path / "run")
    with raylets(2, cpus=1) as cluster, RayEngine.started(RayConfig(address=cluster.address)) as engine:
        (node,) = cluster.worker_nodes
        with Killer(run, 2, node, lambda: cluster.remove_node(node, allow_graceful=False)) as killer:
            tokenize(run, QUIET, engine)
        assert 2 <= killer.stood < CHUNKS
    np.testing.assert_array_equal(run.dense.whole(), local.dense.whole())


def test_an_encoding_broken_off_on_one_engine_goes_on_on_the_other(cluster, local, tmp_path):
    run = begun(local, tmp_path / "run")

    class StoppedError(Exception):
        pass

    class Stopping(Progress):
        def advance(self, bar, amount=1):
            super().advance(bar, amount)
            if bar.done >= ITEMS // 2:
                raise StoppedError

    with pytest.raises(StoppedError):
        tokenize(run, Stopping(enabled=False))
    made = {file: file.stat().st_mtime_ns for file in run.path.rglob("dense_tokens/**/*.safetensors")}
    assert len(made) == CHUNKS // 2
    with RayEngine.started(RayConfig(address=cluster.address)) as engine:
        tokenize(run, QUIET, engine)
    assert all(file.stat().st_mtime_ns == when for file, when in made.items())
    np.testing.assert_array_equal(run.dense.whole(), local.dense.whole())


def test_a_fault_of_the_data_is_told_as_such(cluster, local, tmp_path):
    run = begun(local, tmp_path / "run")
    with RayEngine.started(RayConfig(address=cluster.address)) as engine:
        tokenize(run, QUIET, engine)
        bad = run.dense.read(17).copy()
        bad[1, 0, 0] = np.nan
        run.dense.write(17, bad)
        shutil.copy(local.file("clusterer"), run.file("clusterer"))
        with pytest.raises(DataError, match=r"item row 69: its dense tokens hold a value that is not finite"):
            cluster_stage(run, QUIET, engine)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"address": "127.0.0.1:1"}, "no Ray cluster"), ({"gpus_per_worker": 1}, "no node of the cluster")],
)
def test_a_cluster_that_is_not_there_is_told_in_one_line(cluster, settings, words):
    with (
        pytest.raises(ConfigError, match=words) as told,
        RayEngine.started(RayConfig.parse({"address": cluster.address} | settings)),
    ):
        pass
    assert "\n" not in str(told.value)


class Killer:
    """Kills a worker of a node (or the node itself) in a thread, once a few chunks stand.

    Attributes
    ----------
    stood: how many chunks stood when it killed; None before.
    """

    def __init__(self, run, chunks, node=None, act=None):
        self.folder, self.chunks, self.node, self.act = run.path / "stages" / "dense_tokens", chunks, node, act
        self.stood = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        wait_for(lambda: self._made() >= self.chunks, every=0.005)
        victims = wait_for(lambda: workers_of("MapWorker", self.node))
        self.stood = self._made()
        if self.act is None:
            kill(random.Random(self.chunks).choice(victims))
        else:
            self.act()

    def _made(self):
        return sum(1 for _ in self.folder.rglob("[0-9]*.safetensors"))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.thread.join(120)
