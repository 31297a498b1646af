import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storerec.codes import CodeTable, CodeTree
from storerec.codes.growth import places_of


def assert_equal(grown: CodeTable, tree: CodeTree, whole: CodeTable) -> None:
    for name in ("codes", "sizes", "tuples", "tuple_of", "bucket_starts", "bucket_items", "counts"):
        np.testing.assert_array_equal(getattr(grown, name), getattr(whole, name), err_msg=name)
        assert getattr(grown, name).dtype == getattr(whole, name).dtype, name
    np.testing.assert_allclose(grown.shares, whole.shares, atol=1e-6)
    built = CodeTree.from_table(whole)
    for name, array in built.arrays().items():
        np.testing.assert_array_equal(tree.arrays()[name], array, err_msg=name)
        assert tree.arrays()[name].dtype == array.dtype, name


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_growing_a_table_and_its_tree_equals_building_them(data):
    levels, size = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    parts = [rng.integers(0, size, (data.draw(st.integers(low, 30)), levels)).astype(np.int32) for low in (1, 0, 0)]
    counts = [rng.integers(0, 4, len(part)).astype(float) for part in parts]
    table = CodeTable.build(parts[0], (size,) * levels, counts=counts[0])
    tree = CodeTree.from_table(table)
    for part, some in zip(parts[1:], counts[1:], strict=True):
        table = table.extend(part, counts=some)
        tree = tree.extended(table)
    whole = CodeTable.build(np.concatenate(parts), (size,) * levels, counts=np.concatenate(counts))
    assert_equal(table, tree, whole)


@pytest.mark.parametrize("policy", ["bucket", "extra", "reassign"])
def test_growing_under_every_policy(policy):
    rng = np.random.default_rng(0)
    codes, more = rng.integers(0, 4, (20, 3)).astype(np.int32), rng.integers(0, 4, (9, 3)).astype(np.int32)
    distances = rng.random((29, 3, 4)).astype(np.float32)
    first = CodeTable.build(codes, (4, 4, 4), policy=policy, distances=distances[:20])
    grown = first.extend(more, distances[20:])
    tree = CodeTree.from_table(first).extended(grown)
    again = CodeTable(grown.codes, grown.sizes, policy, grown.counts, 1.0)
    assert_equal(grown, tree, again)


def test_places_of_rows_among_sorted_ones():
    tuples = np.array([[0, 1], [0, 3], [2, 0]], np.int32)
    places, known = places_of(tuples, np.array([[0, 0], [0, 1], [0, 4], [2, 0], [2, 1], [9, 9]], np.int32))
    assert places.tolist() == [0, 0, 2, 2, 3, 3]
    assert known.tolist() == [False, True, False, True, False, False]


def test_shares_of_a_large_table_are_brought_up_to_date():
    rng = np.random.default_rng(0)
    codes, more = rng.integers(0, 5, (900, 3)).astype(np.int32), rng.integers(0, 5, (9, 3)).astype(np.int32)
    first = CodeTable.build(codes, (5, 5, 5), counts=rng.integers(0, 9, 900).astype(float))
    grown = first.extend(more, counts=np.arange(9.0))
    assert "shares" in grown.__dict__  # not made anew
    np.testing.assert_allclose(
        grown.shares, CodeTable(grown.codes, grown.sizes, "bucket", grown.counts, 1.0).shares, atol=1e-6
    )
