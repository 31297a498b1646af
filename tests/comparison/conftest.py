"""Folders that all tests of the comparison read."""

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
