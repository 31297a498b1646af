import os
import time
import tracemalloc

import numpy as np
import pytest

from storerec.errors import DataError
from storerec.storage import map_arrays, save_arrays, scratch


def test_mapped_arrays_equal_the_saved_ones(tmp_path):
    arrays = {
        "codes": np.arange(12, dtype=np.int32).reshape(4, 3),
        "counts": np.array([1.5, 2.5]),
        "none": np.empty((0, 2), np.float32),
        "flags": np.array([True, False]),
        "turned": np.arange(6.0).reshape(3, 2).T,
        "one": np.array(2.5, np.float16),
    }
    save_arrays(tmp_path / "a.safetensors", arrays)
    mapped = map_arrays(tmp_path / "a.safetensors")
    assert set(mapped) == set(arrays)
    for name, array in arrays.items():
        assert (mapped[name].dtype, mapped[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(mapped[name], array)
    with pytest.raises(ValueError, match="read-only"):
        mapped["codes"][0, 0] = 1


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x02" + b"\0" * 7 + b"{}"[:1], b"\x02" + b"\0" * 7 + b"[]"])
def test_another_file_is_one_clear_error(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.safetensors: cannot be read"):
        map_arrays(tmp_path / "a.safetensors")


def test_a_file_cut_short_is_an_error(tmp_path):
    place = tmp_path / "a.safetensors"
    save_arrays(place, {"codes": np.arange(100)})
    place.write_bytes(place.read_bytes()[:-80])
    with pytest.raises(DataError, match="cannot be read"):
        map_arrays(place)


def test_writing_a_mapped_array_copies_nothing_of_it(tmp_path):
    whole = np.memmap(tmp_path / "large", np.float32, "w+", shape=(1 << 22,))
    whole[-1] = 7
    whole.flush()
    whole = np.memmap(tmp_path / "large", np.float32, "r", shape=whole.shape)
    tracemalloc.start()
    save_arrays(tmp_path / "a.safetensors", {"large": whole})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < whole.nbytes / 10
    assert map_arrays(tmp_path / "a.safetensors")["large"][-1] == 7


def test_scratch_takes_away_what_killed_processes_left_and_leaves_others(tmp_path):
    parent = tmp_path / "table"
    for name, days in (("left", 2), ("other", 0)):
        (parent / name).mkdir(parents=True)
        (parent / name / "large").write_bytes(b"0")
        os.utime(parent / name, (time.time() - days * 86_400,) * 2)
    with scratch(parent) as own:
        (own / "large").write_bytes(b"0")
        assert {one.name for one in parent.iterdir()} == {"other", own.name}
    assert [one.name for one in parent.iterdir()] == ["other"]
