import subprocess
import sys

import pytest

import storerec

NAMES = {
    *("STORE", "StoreConfig", "RunOptions", "Catalogue", "Histories", "Split", "leave_one_out"),
    *("split_users", "read_items", "read_events", "__version__", "StorerecError", "ConfigError", "DataError"),
    *("RowError", "FetchError", "BackboneError", "TrainingError", "BundleError", "MissingExtraError"),
    *("StorerecWarning", "EndpointError", "ItemError"),
}
HEAVY = ("torch", "transformers", "polars", "numpy", "pydantic")


def test_public_names():
    assert set(storerec.__all__) == NAMES
    assert len(storerec.__all__) == len(NAMES)
    assert set(dir(storerec)) >= NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_name_is_there_and_what_it_says(name):
    thing = getattr(storerec, name)
    assert name == "__version__" or thing.__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Store'"):
        _ = storerec.Store


@pytest.mark.parametrize("module", ["storerec", "storerec.cli"])
def test_importing_it_brings_nothing_heavy(module):
    code = f"import sys, {module}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
