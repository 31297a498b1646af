"""One cluster of two raylets for all tests of a module."""

import pytest

from tests.scale.cluster import raylets


@pytest.fixture(scope="module")
def cluster():
    with raylets(2) as made:
        yield made
