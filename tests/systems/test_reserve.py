"""Places of a list that are kept for new items."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storerec.systems.base import RankedLists
from storerec.systems.reserve import places, search_with_reserve, with_reserve


def world(seed, items=30, new=8):
    """Scores of all items, and which of them are new."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(3, items)).astype(np.float32), np.arange(items) >= items - new


def ranked(scores, k, banned):
    """What a perfect search gives."""
    scores = np.where(banned, -np.inf, scores)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, axis=1)
    items = np.where(np.isfinite(best), order, -1).astype(np.int32)
    short = ((0, 0), (0, k - items.shape[1]))
    return RankedLists(np.pad(items, short, constant_values=-1), np.pad(best, short, constant_values=-np.inf))


def searched(scores, new, k, share, banned=None):
    banned = np.zeros(len(new), bool) if banned is None else banned

    def search(wanted, out):
        return ranked(scores, wanted, out)

    users = np.ones(len(scores))
    return search_with_reserve(search, (users * k).astype(int), users * share, new, banned)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 35), st.sampled_from([0.05, 0.1, 0.3, 0.5, 1.0]), st.integers(0, 8))
def test_every_beginning_of_a_list_has_its_share_of_new_items(seed, k, share, n_new):
    scores, new = world(seed, new=n_new)
    found = searched(scores, new, k, share)
    for items in found.items:
        kept = items[items >= 0].tolist()
        assert len(set(kept)) == len(kept) == min(k, 30)
        for n in range(1, len(kept) + 1):
            assert sum(new[kept[:n]]) >= min(places(n, share), n_new)


@given(st.integers(0, 10_000), st.sampled_from([0.1, 0.2, 0.5]))
@settings(max_examples=50, deadline=None)
def test_a_short_list_is_how_a_long_one_begins(seed, share):
    scores, new = world(seed)
    whole = searched(scores, new, 30, share)
    for k in (1, 5, 10, 29):
        part = searched(scores, new, k, share)
        np.testing.assert_array_equal(part.items, whole.items[:, :k])
        np.testing.assert_array_equal(part.scores, whole.scores[:, :k])


def test_old_and_new_items_keep_their_order_and_scores():
    scores, new = world(3)
    scores[:, new] -= 9
    found = searched(scores, new, 10, 0.2)
    old, fresh = ranked(scores, 10, new), ranked(scores, 10, ~new)
    expected = np.concatenate([old.items[:, :4], fresh.items[:, :1], old.items[:, 4:8], fresh.items[:, 1:2]], axis=1)
    np.testing.assert_array_equal(found.items, expected)
    np.testing.assert_array_equal(found.scores, np.take_along_axis(scores, expected.astype(int), axis=1))


def test_new_items_that_stand_high_by_themselves_count():
    scores, new = world(4)
    scores[:, new] += 9
    plain = ranked(scores, 10, np.zeros(30, bool))
    np.testing.assert_array_equal(searched(scores, new, 10, 0.3).items, plain.items)


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_nothing_is_searched_twice_without_need(share):
    scores, new = world(5)
    asked = []

    def search(wanted, out):
        asked.append(wanted)
        return ranked(scores, wanted, out)

    none = np.zeros(30, bool)
    search_with_reserve(search, np.full(3, 10), np.full(3, share), new if share == 0 else none, none)
    search_with_reserve(search, np.full(3, 9), np.full(3, share), new, none)  # a tenth of nine is no place
    search_with_reserve(search, np.full(3, 10), np.full(3, share), new, new)  # all of them were removed
    assert asked == [10, 9, 10]


def test_users_have_shares_of_their_own():
    scores, new = world(6)
    scores[:, new] -= 9
    plain, fresh = ranked(scores, 10, np.zeros(30, bool)), ranked(scores, 5, ~new)
    found = with_reserve(plain, fresh, new, np.array([0.0, 0.1, 0.5]))
    assert new[found.items].sum(axis=1).tolist() == [0, 1, 5]


def test_a_list_depends_on_no_other_user_of_the_call():
    scores, new = world(7)
    asked = []

    def search(wanted, out):
        asked.append(wanted)  # a beam search is as wide as it is long
        return ranked(scores, wanted, out)

    none = np.zeros(30, bool)
    search_with_reserve(search, np.full(3, 20), np.array([0.1, 0.1, 0.5]), new, none)
    search_with_reserve(search, np.full(3, 20), np.array([0.1, 0.1, 0.1]), new, none)
    assert asked == [20] * 4


def test_no_user_gets_no_list():
    scores, new = world(8)
    found = search_with_reserve(
        lambda wanted, out: ranked(scores[:0], wanted, np.zeros(30, bool)), np.empty(0, int), np.empty(0), new, ~new
    )
    assert found.items.shape == (0, 1)
