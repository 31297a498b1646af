import errno
import os
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storerec.codes import CodeTable, CodeTree, external, table_files, tree_files
from storerec.codes.array_file import ArrayFile
from storerec.codes.collisions import group_rows
from storerec.errors import DataError
from storerec.storage import map_arrays, save_arrays

DERIVED = ("tuples", "tuple_of", "bucket_starts", "bucket_items", "shares")
# one code for all, few, many, and more than 63 bits
SIZES = st.sampled_from([(1,), (2, 2), (7, 300, 5), (70_000,) * 5, (65_536,) * 4])
cases = st.tuples(st.integers(1, 80), SIZES, st.integers(0, 10**6))


def drawn(n, sizes, seed):
    """Codes of which a third are repeated, and training counts."""
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, size, n) for size in sizes], axis=1).astype(np.int32)
    codes[rng.random(n) < 0.3] = codes[0]
    return codes, rng.integers(0, 5, n).astype(float)


def same_table(one, other):
    assert one.policy == other.policy
    for name in ("codes", "sizes", "counts", *DERIVED):
        found, expected = getattr(one, name), getattr(other, name)
        assert found.dtype == expected.dtype, name
        if name == "shares":
            np.testing.assert_allclose(found, expected, atol=1e-6)
        else:
            np.testing.assert_array_equal(found, expected, err_msg=name)


def same_tree(one, other):
    found, expected = one.arrays(derived=True), other.arrays(derived=True)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@settings(max_examples=60, deadline=None)
@given(cases, st.integers(1, 30))
def test_runs_of_any_length_are_the_sorted_whole(case, run_rows):
    codes, _ = drawn(*case)
    with tempfile.TemporaryDirectory() as folder:
        runs = list(external.sorted_runs(codes, np.array(case[1]), Path(folder), run_rows=run_rows))
        assert list(Path(folder).iterdir()) == []
    tuples, tuple_of = group_rows(codes)
    np.testing.assert_array_equal(np.concatenate([run.tuples for run in runs]), tuples)
    rows = np.concatenate([run.rows for run in runs])
    np.testing.assert_array_equal(rows, np.argsort(tuple_of, kind="stable"))
    bases = np.cumsum([0, *(len(run.tuples) for run in runs)])
    numbers = np.concatenate([base + run.tuple_of for base, run in zip(bases[:-1], runs, strict=True)])
    np.testing.assert_array_equal(numbers, tuple_of[rows])


def test_runs_are_of_nearly_equal_length():
    codes, _ = drawn(5000, (64, 64, 64), 0)
    codes = codes[(codes != codes[0]).any(axis=1)]  # without the tuple that is repeated
    with tempfile.TemporaryDirectory() as folder:
        lengths = [len(run.rows) for run in external.sorted_runs(codes, np.array([64] * 3), Path(folder), run_rows=500)]
    assert len(lengths) == -(-len(codes) // 500)
    assert max(lengths) < 1000


@settings(max_examples=30, deadline=None)
@given(cases, st.sampled_from(["bucket", "extra"]), st.integers(1, 30), st.integers(1, 30))
def test_files_hold_what_memory_would(case, policy, run_rows, chunk):
    codes, counts = drawn(*case)
    expected = CodeTable.build(codes, case[1], policy=policy, counts=counts, smoothing=0.5)
    sizes = np.array(case[1])
    with tempfile.TemporaryDirectory() as name:
        if policy == "extra":
            arrays = table_files.numbered_arrays(codes, sizes, Path(name), run_rows=run_rows)
        else:
            arrays = table_files.bucket_arrays(codes, sizes, counts, 0.5, Path(name), run_rows=run_rows)
        found = CodeTable.from_arrays(expected.arrays() | arrays)
        same_table(found, expected)
        levels = tree_files.level_arrays(found.tuples, found.bucket_starts, Path(name), chunk=chunk)
        same = CodeTree.from_arrays(levels | {"sizes": found.sizes, "tuple_of": found.tuple_of})
        assert {"leaves_below", "branching"} <= same.__dict__.keys()
        same_tree(same, CodeTree.from_table(expected))


@pytest.mark.parametrize("policy", ["bucket", "extra"])
@pytest.mark.parametrize("large", [100, 301])
def test_a_large_table_is_built_in_the_folder_given(tmp_path, monkeypatch, policy, large):
    monkeypatch.setattr(external, "LARGE", large)
    codes, counts = drawn(300, (8, 8, 8), 1)
    np.save(tmp_path / "codes.npy", codes)
    mapped = np.load(tmp_path / "codes.npy", mmap_mode="r")
    folder = tmp_path / "files"
    table = CodeTable.build(mapped, (8, 8, 8), policy=policy, counts=counts, folder=folder)
    tree = CodeTree.from_table(table, folder=folder)
    assert folder.exists() == (large <= 300)
    assert isinstance(table.tuples, np.memmap) == isinstance(tree.starts[1], np.memmap) == (large <= 300)
    expected = CodeTable.build(codes, (8, 8, 8), policy=policy, counts=counts)
    same_table(table, expected)
    same_tree(tree, CodeTree.from_table(expected))
    if large <= 300:
        with pytest.raises(ValueError, match="read-only"):
            table.tuple_of[0] = 1
    more, _ = drawn(20, (8, 8, 8), 2)
    same_table(table.extend(more), expected.extend(more))
    same_tree(tree.extended(table.extend(more)), CodeTree.from_table(expected.extend(more)))


def test_reassigned_tables_are_built_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(external, "LARGE", 1)
    distances = np.random.default_rng(0).random((20, 2, 8)).astype(np.float32)
    codes = distances.argmin(axis=2)
    table = CodeTable.build(codes, (8, 8), policy="reassign", distances=distances, folder=tmp_path / "files")
    same_table(table, CodeTable.build(codes, (8, 8), policy="reassign", distances=distances))
    assert not (tmp_path / "files").exists()


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, monkeypatch):
    codes, _ = drawn(50, (8, 8), 0)
    table = CodeTable.build(codes, (8, 8))
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(external, "LARGE", 1)
    for policy in ("bucket", "extra"):
        with pytest.raises(DataError, match="file: cannot be written to"):
            CodeTable.build(codes, (8, 8), policy=policy, folder=tmp_path / "file")
    with pytest.raises(DataError, match="file: cannot be written to"):
        CodeTree.from_table(table, folder=tmp_path / "file")


def test_a_full_disk_is_told_and_ends_no_program(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(external, "LARGE", 1)
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(DataError, match="No space left"):
        CodeTable.build(drawn(50, (8, 8), 0)[0], (8, 8), folder=tmp_path / "files")


def test_a_wrong_row_is_named_wherever_it_stands(tmp_path, monkeypatch):
    monkeypatch.setattr("storerec.codes.table_checks._CHUNK_ROWS", 7)
    codes, _ = drawn(50, (8, 8), 0)
    codes[33, 1] = 8
    with pytest.raises(DataError, match="item row 33"):
        CodeTable.build(codes, (8, 8), folder=tmp_path)


def test_memory_is_that_of_a_run(tmp_path, monkeypatch):
    n, run = 300_000, 10_000
    monkeypatch.setattr(external, "_CHUNK_ROWS", run)
    counts = np.ones(n)
    codes = np.random.default_rng(0).integers(0, 256, (n, 3)).astype(np.int32)
    np.save(tmp_path / "codes.npy", codes)
    mapped, sizes = np.load(tmp_path / "codes.npy", mmap_mode="r"), np.array([256] * 3)
    del codes

    def outside():
        arrays = table_files.bucket_arrays(mapped, sizes, counts, 1.0, tmp_path / "files", run_rows=run)
        tree_files.level_arrays(arrays["tuples"], arrays["bucket_starts"], tmp_path / "files", chunk=run)

    def inside():
        CodeTree.from_table(CodeTable.build(mapped, sizes, counts=counts)).leaves_below  # noqa: B018

    peaks = []
    for way in (outside, inside):
        tracemalloc.start()
        way()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # arrays are traced, mapped files are not: of a run of a thirtieth, and of the sample that finds the ranges
    assert peaks[0] < 4_000_000
    assert peaks[1] > 8_000_000


@pytest.mark.parametrize("policy", ["bucket", "extra", "reassign"])
def test_what_follows_from_the_codes_is_mapped_and_not_computed(tmp_path, monkeypatch, policy):
    distances = np.random.default_rng(0).random((200, 3, 8)).astype(np.float32)
    codes, counts = distances.argmin(axis=2), np.arange(200.0)
    table = CodeTable.build(codes, (8, 8, 8), policy=policy, distances=distances, counts=counts)
    tree = CodeTree.from_table(table)
    save_arrays(tmp_path / "table.safetensors", table.arrays(derived=True))
    save_arrays(tmp_path / "tree.safetensors", tree.arrays(derived=True))
    file, tree_file = map_arrays(tmp_path / "table.safetensors"), map_arrays(tmp_path / "tree.safetensors")
    back, grown = CodeTable.from_arrays(file), CodeTree.from_arrays(tree_file)

    def refuse(*_):
        raise AssertionError("computed")

    monkeypatch.setattr("storerec.codes.table.group_rows", refuse)
    monkeypatch.setattr("storerec.codes.table.log_shares", refuse)
    monkeypatch.setattr(CodeTree, "counts_below", refuse)
    monkeypatch.setattr(CodeTree, "_dense_level", refuse)
    for name in ("codes", "counts", *DERIVED):
        assert np.shares_memory(getattr(back, name), file[name]), name
    for level in range(4):
        assert np.shares_memory(grown.leaves_below[level], tree_file[f"below.{level}"])
        assert np.shares_memory(grown.branching[level], tree_file[f"branching.{level}"])
    assert grown.dense(0) is not None
    same_table(back, table)
    monkeypatch.undo()
    same_tree(grown, tree)


def test_dense_tables_of_another_limit_are_made_anew():
    table = CodeTable.build(drawn(100, (8, 8), 0)[0], (8, 8))
    arrays = CodeTree.from_table(table).arrays(derived=True)
    assert "dense.1" in arrays
    assert CodeTree.from_arrays(arrays, dense_limit=0).dense(1) is None


@pytest.mark.parametrize("name", ["codes", "counts", *DERIVED])
def test_arrays_that_do_not_fit_are_refused(name):
    arrays = CodeTable.build(drawn(100, (8, 8), 0)[0], (8, 8)).arrays(derived=True)
    with pytest.raises(DataError, match="does not fit"):
        CodeTable.from_arrays(arrays | {name: arrays[name][:-1]})


def test_arrays_in_files(tmp_path):
    with ArrayFile(tmp_path / "new" / "a.bin", np.int32, 3) as file:
        for rows in (np.arange(6).reshape(2, 3), np.empty((0, 3)), np.full((1, 3), 9)):
            file.append(rows)
    np.testing.assert_array_equal(file.mapped(), [[0, 1, 2], [3, 4, 5], [9, 9, 9]])
    with ArrayFile(tmp_path / "b.bin", np.bool_) as empty:
        pass
    assert empty.mapped().shape == (0,)
