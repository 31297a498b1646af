import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from storerec.bundle import MANIFEST, FileEntry, read_bundle, write_bundle
from storerec.errors import BundleError

TENSORS = {
    "codes": {"codes": np.arange(12, dtype=np.int32).reshape(3, 4), "sizes": np.array([3, 4])},
    "adapter": {"a.weight": np.linspace(0, 1, 50, dtype=np.float32), "scale": np.float32(0.5)},
}
DOCUMENTS = {"config": {"beam": 20, "name": "été"}, "items": ["a", "b", "c"]}
FILES = ["adapter.safetensors", "codes.safetensors", "config.json", "items.json"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "bundle", tensors=TENSORS, documents=DOCUMENTS)
    return tmp_path / "bundle"


def assert_same(bundle):
    assert bundle.documents == DOCUMENTS
    assert bundle.tensors.keys() == TENSORS.keys()
    for name, arrays in TENSORS.items():
        assert bundle.tensors[name].keys() == arrays.keys()
        for key, array in arrays.items():
            read = bundle.tensors[name][key]
            assert read.dtype == array.dtype
            np.testing.assert_array_equal(read, array)


def fault(folder: Path, name: str, *words: str):
    with pytest.raises(BundleError) as caught:
        read_bundle(folder)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_round_trip_and_manifest(folder):
    assert_same(read_bundle(folder))
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, MANIFEST])
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    assert manifest["format"] == "storerec-bundle"
    assert manifest["libraries"]["numpy"] == np.__version__
    assert sorted(manifest["files"]) == FILES
    assert manifest["files"]["items.json"]["size"] == (folder / "items.json").stat().st_size


def test_transposed_and_strided_arrays_come_back_in_order(tmp_path):
    whole = np.arange(24).reshape(4, 6)
    arrays = {"transposed": whole.T, "every second": whole[:, ::2], "scalar": np.array(3)}
    write_bundle(tmp_path / "b", tensors={"t": arrays}, documents={})
    for name, array in arrays.items():
        np.testing.assert_array_equal(read_bundle(tmp_path / "b").tensors["t"][name], array)


def test_the_folder_can_be_moved(folder, tmp_path):
    elsewhere = tmp_path / "another machine" / "model"
    elsewhere.parent.mkdir()
    shutil.move(folder, elsewhere)
    assert_same(read_bundle(elsewhere))


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    fault(folder, name)


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_anywhere_is_named(folder, name):
    whole = (folder / name).read_bytes()
    for length in {0, 1, 8, len(whole) // 2, len(whole) - 1}:
        (folder / name).write_bytes(whole[:length])
        fault(folder, name, "truncated", str(len(whole)))


@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_is_noticed(folder, name):
    whole = bytearray((folder / name).read_bytes())
    for position in {0, len(whole) // 3, len(whole) - 1}:
        changed = whole.copy()
        changed[position] ^= 1
        (folder / name).write_bytes(changed)
        fault(folder, name, "altered")


def test_a_longer_file_is_noticed(folder):
    with (folder / "items.json").open("a", encoding="utf-8") as stream:
        stream.write(" ")
    fault(folder, "items.json", "too long")


def test_a_cut_manifest_is_named(folder):
    whole = (folder / MANIFEST).read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 3):
        (folder / MANIFEST).write_bytes(whole[:length])
        fault(folder, MANIFEST, "not valid JSON")


def rewrite(folder: Path, **changes):
    values = json.loads((folder / MANIFEST).read_text(encoding="utf-8")) | changes
    (folder / MANIFEST).write_text(json.dumps(values), encoding="utf-8")


def test_a_newer_format_is_refused_whatever_its_fields(folder):
    rewrite(folder, format_version=2, something_new=True)
    fault(folder, MANIFEST, "newer")


@pytest.mark.parametrize(
    "changes",
    [{"format": "zip"}, {"format_version": "one"}, {"format_version": 0}, {"files": 3}, {"something_new": 1}],
)
def test_a_manifest_of_another_shape_is_refused(folder, changes):
    rewrite(folder, **changes)
    fault(folder, MANIFEST)


@pytest.mark.parametrize(
    "name", ["../secret.json", "a/b.json", "a\\b.json", "/etc/x.json", "model.bin", ".x.json", "a.json\n"]
)
def test_paths_and_other_kinds_of_file_are_refused(folder, name):
    (folder.parent / "secret.json").write_text("{}", encoding="utf-8")
    entry = FileEntry.of(folder.parent / "secret.json").model_dump()
    rewrite(folder, files={name: entry})
    fault(folder, MANIFEST)


@pytest.mark.parametrize(("name", "words"), [("codes.safetensors", "safetensors"), ("items.json", "JSON")])
def test_garbage_with_a_right_hash_is_named(folder, name, words):
    (folder / name).write_bytes(b"\xff garbage {")
    values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    values["files"][name] = FileEntry.of(folder / name).model_dump()
    rewrite(folder, files=values["files"])
    fault(folder, name, words)


def test_no_folder_and_a_file_in_its_place(tmp_path):
    fault(tmp_path / "nowhere", "nowhere", "no such folder")
    (tmp_path / "plain").write_text("x", encoding="utf-8")
    fault(tmp_path / "plain", "plain", "not a folder")


def test_writing_again_replaces_the_whole_bundle(folder):
    write_bundle(folder, tensors={}, documents={"other": 1})
    assert read_bundle(folder).documents == {"other": 1}
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, "other.json"]
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def test_a_failed_write_leaves_the_old_bundle_and_no_rest(folder):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_bundle(folder, tensors=TENSORS, documents={"bad": float("nan")})
    assert_same(read_bundle(folder))
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def test_a_folder_with_other_files_is_never_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(BundleError, match="no bundle"):
        write_bundle(tmp_path, tensors={}, documents={})
    with pytest.raises(BundleError, match="is a file"):
        write_bundle(tmp_path / "thesis.txt", tensors={}, documents={})
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "years of work"


@pytest.mark.parametrize("name", ["../up", "a/b", "", "manifest"])
def test_names_that_are_not_plain_are_refused(tmp_path, name):
    with pytest.raises(BundleError, match="cannot hold"):
        write_bundle(tmp_path / "b", tensors={}, documents={name: 1})
    assert list(tmp_path.iterdir()) == []


def test_others_may_read_a_bundle(folder):
    assert stat.S_IMODE(folder.stat().st_mode) & 0o500 == 0o500
    plain = folder.parent / "plain"
    plain.mkdir()
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_no_torch_is_needed():
    code = "import sys, storerec.bundle; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
