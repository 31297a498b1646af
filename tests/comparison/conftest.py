"""Folders that all tests of the comparison read."""

import gc

import pytest

from tests.comparison import raw


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    return raw.write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def raw_mind(tmp_path_factory):
    return raw.write_mind(tmp_path_factory.mktemp("raw-mind"))


@pytest.fixture(scope="session")
def raw_yelp(tmp_path_factory):
    return raw.write_yelp(tmp_path_factory.mktemp("raw-yelp"))


@pytest.fixture(scope="session", autouse=True)
def _frozen():
    """Trainer.train ends with a full garbage collection; what stands already need not be searched each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
