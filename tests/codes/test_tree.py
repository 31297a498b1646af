import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storerec.codes import CodeTable, CodeTree
from storerec.errors import DataError

tables = st.tuples(st.integers(1, 60), st.sampled_from([(4, 4, 4), (7, 9), (50,), (3, 5, 7, 2)]), st.integers(0, 10**6))


def random_table(n, sizes, seed):
    rng = np.random.default_rng(seed)
    return CodeTable.build(np.stack([rng.integers(0, k, n) for k in sizes], axis=1), sizes)


def walk(tree):
    """All root-to-leaf code tuples, found through ``children`` alone, in leaf order."""
    paths = {0: ()}
    for level in range(tree.levels):
        nodes = np.array(list(paths))
        table = tree.children(level, nodes)
        paths = {
            int(table[i, code]): (*paths[int(node)], code)
            for i, node in enumerate(nodes)
            for code in range(table.shape[1])
            if table[i, code] >= 0
        }
    return [paths[leaf] for leaf in sorted(paths)]


@settings(max_examples=50, deadline=None)
@given(tables, st.booleans())
def test_paths_are_exactly_the_tuples(case, dense):
    table = random_table(*case)
    tree = CodeTree.from_table(table, **({} if dense else {"dense_limit": 0}))
    assert all((tree.dense(level) is not None) == dense for level in range(tree.levels))
    assert walk(tree) == [tuple(t) for t in table.tuples.tolist()]


@settings(max_examples=50, deadline=None)
@given(tables)
def test_dense_and_ranges_agree(case):
    table = random_table(*case)
    dense, ranges = CodeTree.from_table(table), CodeTree.from_table(table, dense_limit=0)
    rng = np.random.default_rng(0)
    for level in range(dense.levels):
        nodes = rng.integers(-1, dense.nodes(level), size=(3, 4))
        a, b = dense.children(level, nodes), ranges.children(level, nodes)
        np.testing.assert_array_equal(a, b)
        assert a.shape == (3, 4, case[1][level])
        assert a.dtype == b.dtype == np.int32
        assert (a[nodes < 0] == -1).all()
    assert dense.children(0, np.int64(0)).shape == (case[1][0],)
    assert dense.children(0, np.array([], dtype=int)).shape == (0, case[1][0])
    assert ranges.children(0, np.array([], dtype=int)).shape == (0, case[1][0])


@settings(max_examples=50, deadline=None)
@given(tables)
def test_counts_paths_and_nodes(case):
    table = random_table(*case)
    tree = CodeTree.from_table(table)
    allowed = np.random.default_rng(1).random(len(table)) < 0.5
    counts = tree.counts_below(allowed)
    for level in range(tree.levels + 1):
        prefixes, node = np.unique(table.codes[:, :level], axis=0, return_inverse=True)
        node = node.ravel() if level else np.zeros(len(table), dtype=int)
        np.testing.assert_array_equal(tree.node_of(level), node)
        np.testing.assert_array_equal(tree.leaves_below[level], np.bincount(node))
        np.testing.assert_array_equal(
            counts[level], np.bincount(node[allowed], minlength=len(tree.leaves_below[level]))
        )
        if level:
            assert tree.nodes(level) == len(prefixes)
            np.testing.assert_array_equal(tree.codes[level - 1], prefixes[:, -1])
    item = len(table) - 1
    assert tree.path(item).tolist() == [tree.node_of(level)[item] for level in range(tree.levels + 1)]


def test_round_trip_and_errors():
    table = random_table(30, (3, 4, 5), 0)
    tree = CodeTree.from_table(table)
    back = CodeTree.from_arrays(tree.arrays())
    assert walk(back) == walk(tree)
    np.testing.assert_array_equal(back.tuple_of, table.tuple_of)
    for level in range(4):
        np.testing.assert_array_equal(back.leaves_below[level], tree.leaves_below[level])
    with pytest.raises(DataError):
        CodeTree.from_arrays({"sizes": np.array([3])})
    with pytest.raises(DataError):
        tree.path(30)
    with pytest.raises(DataError):
        tree.counts_below(np.ones(29, dtype=bool))
    with pytest.raises(DataError):
        tree.counts_below(np.ones(30))


@pytest.mark.slow
def test_million_items():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, size=(1_000_000, 4), dtype=np.int32)
    begin = time.perf_counter()
    table = CodeTable.build(codes, (256,) * 4)
    tree = CodeTree.from_table(table)
    seconds = time.perf_counter() - begin
    assert tree.nodes(1) == 256
    assert tree.nodes(4) == len(table.tuples) == len(np.unique(codes @ (256 ** np.arange(3, -1, -1))))
    assert tree.dense(3) is None
    rows = rng.integers(0, 1_000_000, 1000)
    leaf = tree.children(3, tree.node_of(3)[rows])[np.arange(1000), codes[rows, 3]]
    np.testing.assert_array_equal(leaf, table.tuple_of[rows])
    assert seconds < 60
