import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storerec.codes import POLICIES, CodeReport, CodeTable
from storerec.codes.collisions import group_rows
from storerec.errors import DataError


def make(n, sizes, seed=0, skew=2.0):
    """Codes with many collisions, and distances of which they are the nearest."""
    rng = np.random.default_rng(seed)
    distances = rng.random((n, len(sizes), max(sizes))).astype(np.float32) ** skew
    distances[:, :, 0] *= 0.2
    codes = np.stack([distances[:, j, :k].argmin(axis=1) for j, k in enumerate(sizes)], axis=1)
    return codes.astype(np.int32), distances


cases = st.tuples(st.integers(1, 40), st.sampled_from([(4, 4, 4), (7, 9), (50,), (3, 5, 7, 2)]), st.integers(0, 10**6))


@settings(max_examples=60, deadline=None)
@given(cases, st.sampled_from(POLICIES))
def test_every_item_resolves_and_rerun_is_equal(case, policy):
    codes, distances = make(*case)
    table = CodeTable.build(codes, case[1], policy=policy, distances=distances)
    again = CodeTable.build(codes, case[1], policy=policy, distances=distances)
    np.testing.assert_array_equal(table.codes, again.codes)
    np.testing.assert_array_equal(table.tuples[table.tuple_of], table.codes)
    np.testing.assert_array_equal(table.tuples, np.unique(table.codes, axis=0))
    for item in range(len(table)):
        assert item in table.bucket(table.tuple_of[item])
    assert sorted(table.bucket_items) == list(range(len(table)))
    assert (table.codes < table.sizes).all()
    if policy != "bucket":
        assert len(table.tuples) == len(table)
    shares = np.bincount(table.tuple_of, weights=np.exp(table.shares))
    np.testing.assert_allclose(shares, 1.0, rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(cases, st.sampled_from(POLICIES), st.integers(0, 9))
def test_extend_never_moves_published_codes(case, policy, new):
    codes, distances = make(*case)
    more, more_distances = make(new, case[1], seed=case[2] + 1)
    table = CodeTable.build(codes, case[1], policy=policy, distances=distances)
    grown = table.extend(more, more_distances, np.ones(new))
    np.testing.assert_array_equal(grown.codes[: len(table)], table.codes)
    assert len(grown) == len(table) + new
    assert (grown.sizes >= table.sizes).all()
    if policy == "bucket":
        np.testing.assert_array_equal(grown.codes[len(table) :], more)
    else:
        assert len(grown.tuples) == len(grown)
    if policy == "extra":
        np.testing.assert_array_equal(grown.codes[len(table) :, :-1], more)
        assert grown.sizes[-1] == grown.codes[:, -1].max() + 1


def test_bucket_shares_by_hand():
    table = CodeTable.build(np.array([[0, 1], [0, 1], [1, 0]]), (2, 2), counts=np.array([3, 0, 9]))
    np.testing.assert_allclose(np.exp(table.shares), [0.8, 0.2, 1.0], rtol=1e-6)
    assert table.shares.dtype == np.float32
    grown = table.extend(np.array([[0, 1]]), counts=np.array([4]))
    np.testing.assert_allclose(np.exp(grown.shares), [0.4, 0.1, 1.0, 0.5], rtol=1e-6)
    assert table.bucket(0).tolist() == [0, 1]


def test_extra_numbers_by_row():
    codes = np.array([[1, 1], [0, 0], [1, 1], [1, 1], [0, 0]])
    table = CodeTable.build(codes, (2, 2), policy="extra")
    assert table.codes[:, 2].tolist() == [0, 0, 1, 2, 1]
    assert table.sizes.tolist() == [2, 2, 3]
    grown = table.extend(np.array([[1, 1], [0, 1], [1, 1]]))
    assert grown.codes[5:, 2].tolist() == [3, 0, 4]
    assert grown.sizes.tolist() == [2, 2, 5]


def test_reassign_by_hand():
    # Item 1 is nearest to (0, 0) and keeps it; item 0's cheapest change is position 1 to code 1 (+0.1), item
    # 2's is the same tuple, which is gone, so it takes position 0 to code 1 (+0.4).
    codes = np.zeros((3, 2), dtype=int)
    distances = np.array([[[0.2, 0.9], [0.2, 0.3]], [[0.1, 0.9], [0.1, 0.9]], [[0.3, 0.7], [0.3, 0.5]]])
    table = CodeTable.build(codes, (2, 2), policy="reassign", distances=distances)
    assert table.codes.tolist() == [[0, 1], [0, 0], [1, 0]]
    last = table.extend(np.zeros((1, 2), dtype=int), distances[:1])
    assert last.codes[3].tolist() == [1, 1]
    with pytest.raises(DataError, match="only 4"):
        last.extend(np.zeros((1, 2), dtype=int), distances[:1])


@pytest.mark.parametrize("seed", range(5))
def test_each_move_is_the_cheapest_free_tuple(seed):
    sizes = (3, 4, 3)
    codes, distances = make(30, sizes, seed=seed)
    table = CodeTable.build(codes, sizes, policy="reassign", distances=distances)
    d = distances.astype(np.float64)

    def cost(i, t):
        return sum(d[i, j, c] for j, c in enumerate(t))

    taken = {tuple(t) for t in np.unique(codes, axis=0).tolist()}
    order = np.lexsort((np.arange(30), *codes.T[::-1]))
    moved = [i for i in order if tuple(table.codes[i]) != tuple(codes[i])]
    assert moved
    for i in moved:
        free = [t for t in itertools.product(*map(range, sizes)) if t not in taken]
        assert cost(i, tuple(table.codes[i].tolist())) == pytest.approx(min(cost(i, t) for t in free))
        taken.add(tuple(table.codes[i].tolist()))
    for i in set(range(30)) - set(moved):
        group = [g for g in range(30) if (codes[g] == codes[i]).all()]
        assert i == min(group, key=lambda g: (cost(g, codes[g]), g))


def test_reassign_fills_the_whole_space_and_duplicates_are_quick():
    distances = np.tile(np.random.default_rng(0).random((1, 3, 16)), (4096, 1, 1)).astype(np.float32)
    codes = distances.argmin(axis=2)
    table = CodeTable.build(codes, (16, 16, 16), policy="reassign", distances=distances)
    assert len(table.tuples) == 16**3
    totals = np.take_along_axis(distances, table.codes[:, :, None], axis=2).sum(axis=(1, 2))
    assert (np.diff(totals) > -1e-5).all()


def test_report_and_round_trip():
    codes = np.array([[i % 4, i % 2] for i in range(8)] + [[0, 1]])
    table = CodeTable.build(codes[:8], (4, 3))
    report = table.report()
    assert report.positions[0].perplexity == pytest.approx(4)
    assert (report.positions[1].size, report.positions[1].used) == (3, 2)
    assert (report.tuples, report.largest_bucket, report.colliding_share) == (4, 2, 1.0)
    assert CodeTable.build(codes, (4, 3)).report().colliding_share == pytest.approx(8 / 9)
    assert CodeReport.parse(report.to_json()) == report
    for policy in POLICIES:
        table = CodeTable.build(codes, (4, 3), policy=policy, distances=np.ones((9, 2, 4)), counts=np.arange(9))
        back = CodeTable.from_arrays(table.arrays())
        for name in ("codes", "sizes", "shares", "tuples", "tuple_of", "bucket_starts", "bucket_items"):
            np.testing.assert_array_equal(getattr(back, name), getattr(table, name))
        assert back.policy == policy


def test_hamming_neighbours():
    table = CodeTable.build(np.array([[0, 0, 0], [1, 1, 1], [0, 0, 1], [0, 0, 0], [0, 2, 2]]), (3, 3, 3))
    assert table.hamming_neighbours(0, 3).tolist() == [3, 2, 4]
    assert len(table.hamming_neighbours(1, 99)) == 4
    gone = np.array([False, False, False, True, False])
    assert table.hamming_neighbours(0, 2, without=gone).tolist() == [2, 4]
    assert len(table.hamming_neighbours(1, 99, without=gone)) == 3
    with pytest.raises(DataError):
        table.hamming_neighbours(5, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"codes": np.array([[0, 2]])},
        {"codes": np.array([[0, -1]])},
        {"codes": np.array([[0.0, 1.0]])},
        {"codes": np.array([[0]])},
        {"codes": np.zeros((0, 2), dtype=int)},
        {"counts": np.array([-1.0])},
        {"counts": np.array([np.nan])},
        {"counts": np.ones(2)},
        {"smoothing": 0.0},
        {"policy": "none"},
        {"policy": "reassign"},
        {"policy": "reassign", "distances": np.full((1, 2, 2), np.nan)},
        {"policy": "reassign", "distances": np.ones((1, 2, 1))},
    ],
)
def test_bad_input_is_a_data_error(change):
    with pytest.raises(DataError):
        CodeTable.build(**{"codes": np.array([[0, 1]]), "sizes": (2, 2), **change})


@pytest.mark.parametrize("size", [3, 70_000])
def test_rows_are_grouped_as_numpy_does(size):
    """70,000 codes at five positions do not fit one number of 63 bits."""
    codes = np.random.default_rng(0).integers(0, size, (400, 5)).astype(np.int32)
    codes = np.concatenate([codes, codes[::3]])
    tuples, tuple_of = group_rows(codes)
    expected, inverse = np.unique(codes, axis=0, return_inverse=True)
    np.testing.assert_array_equal(tuples, expected)
    np.testing.assert_array_equal(tuple_of, inverse.reshape(-1))
