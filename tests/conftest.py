"""Fixtures shared by all tests."""

import gc
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # tests never ask a model hub
# tiny models gain nothing from threads, and idle OpenMP threads spin: two test processes would fight for two cores.
# Read when torch is imported, and inherited by the programs that tests start
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(1)

from storerec.config import RunOptions
from storerec.llm.backbone import Backbone, BackboneConfig
from tests import tiny


@pytest.fixture(scope="session", autouse=True)
def _frozen():
    """Each training ends with a full garbage collection; what stands already need not be searched every time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory):
    """Folder of a tiny random model: ``tiny_backbone("llama")``."""
    made = {}

    def get(family="llama"):
        if family not in made:
            made[family] = tiny.save(family, tmp_path_factory.mktemp(family))
        return made[family]

    return get


@pytest.fixture(params=tiny.FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def load_backbone(tiny_backbone):
    """A fresh backbone of a family (tests add adapters to it)."""

    def get(family="llama", dtype="float32"):
        return Backbone.load(BackboneConfig(name=str(tiny_backbone(family))), RunOptions(device="cpu", dtype=dtype))

    return get


@pytest.fixture(autouse=True)
def _one_seed():
    torch.manual_seed(0)
