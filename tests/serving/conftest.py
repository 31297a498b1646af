"""A fitted run of a small shop, and copies of its bundle that tests may change."""

import shutil

import pytest

from storerec.config import RunOptions
from storerec.llm.progress import Progress
from storerec.pipeline import RunFolder, fit
from tests import worlds

OPTIONS = RunOptions(device="cpu", dtype="float32", progress=False)


@pytest.fixture(scope="session")
def trained(tiny_backbone, tmp_path_factory):
    """Bundle folder of the shop; tests must not change it."""
    catalogue, histories = worlds.data()
    config = worlds.config(tiny_backbone("llama"))
    run = RunFolder.create(tmp_path_factory.mktemp("served") / "run", catalogue, histories, config, OPTIONS)
    fit(run, Progress(enabled=False))
    return run.path / "bundle"


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of the bundle of the test's own."""
    shutil.copytree(trained, tmp_path / "bundle")
    return tmp_path / "bundle"
