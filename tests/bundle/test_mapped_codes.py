from pathlib import Path

import numpy as np
import pytest

from storerec.bundle import read_bundle, write_bundle
from storerec.codes import CodeTable, CodeTree
from storerec.pipeline.bundling import load_inspection, mapped_table, table_arrays

NAMES = ("codes", "sizes", "counts", "tuples", "tuple_of", "bucket_starts", "bucket_items", "shares")


def drawn() -> tuple[CodeTable, CodeTree]:
    rng = np.random.default_rng(0)
    table = CodeTable.build(rng.integers(0, 6, (400, 3)), (6, 6, 6), counts=rng.integers(0, 9, 400).astype(float))
    return table, CodeTree.from_table(table)


def write(folder: Path, table: dict[str, np.ndarray], tree: dict[str, np.ndarray]) -> None:
    items = [f"i{row}" for row in range(400)]
    some = {"some": np.zeros(1)}
    write_bundle(
        folder,
        tensors={"table": table, "tree": tree, "tokenizer": some, "clusterer": some},
        documents={
            "items": {"title_attribute": "title", "columns": {"item_id": items, "title": items}},
            "run": {"removed": ["i3"]},
        },
    )


def of_a_file(array: np.ndarray) -> bool:
    """Whether an array is a view of a mapped file."""
    base = array
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    return base is not None and not array.flags.writeable


@pytest.mark.parametrize("derived", [True, False], ids=["with what follows", "of an older version"])
def test_tables_and_trees_come_from_the_files(tmp_path, derived):
    table, tree = drawn()
    kept = table_arrays(table) if derived else table.arrays()
    assert "tuple_of" not in kept  # the tree has it: kept once
    write(tmp_path / "bundle", kept, tree.arrays(derived=derived))
    saved = read_bundle(tmp_path / "bundle")
    back = CodeTree.from_arrays(saved.tensors["tree"])
    found = mapped_table(saved, back)
    for name in NAMES:
        np.testing.assert_array_equal(getattr(found, name), getattr(table, name))
        # 'counts' and 'shares' of an older bundle are computed, or looked through
        if derived:
            assert of_a_file(getattr(found, name)), name
    for level in range(4):
        np.testing.assert_array_equal(back.leaves_below[level], tree.leaves_below[level])
        np.testing.assert_array_equal(back.branching[level], tree.branching[level])
        assert of_a_file(back.leaves_below[level]) == of_a_file(back.branching[level]) == derived
    assert of_a_file(back.dense(2)) == derived
    np.testing.assert_array_equal(back.dense(2), tree.dense(2))


def test_items_are_explained_from_the_files_alone(tmp_path, monkeypatch):
    table, tree = drawn()
    expected = [
        (tmp_path / "old", table.arrays(), tree.arrays()),
        (tmp_path / "new", table_arrays(table), tree.arrays(derived=True)),
    ]
    found = []
    for folder, kept, levels in expected:
        write(folder, kept, levels)
        found.append(load_inspection(folder).explain("i5", neighbours=4))
    assert found[0] == found[1]

    def refuse(*_: object) -> None:
        raise AssertionError("computed")

    monkeypatch.setattr("storerec.codes.table.group_rows", refuse)
    assert load_inspection(tmp_path / "new").explain("i5", neighbours=4) == found[0]
    with pytest.raises(AssertionError, match="computed"):
        load_inspection(tmp_path / "old").explain("i5", neighbours=4)
