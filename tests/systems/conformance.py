"""What every system must do, whatever it is made of; each system's tests call :func:`check_system`."""

import numpy as np

from storerec.data.histories import Histories
from storerec.systems.base import Exclusions, RankedLists, System

NONE = Exclusions()


def check_system(system, histories, n_items, *, k=10):
    """Check ``system`` on ``histories`` (>= 3 users, items below ``n_items``) at list length ``k``."""
    assert isinstance(system, System)
    assert isinstance(system.name, str)
    assert system.name
    check_lists(system, histories, n_items, k)
    check_exclusions(system, histories, n_items, k)
    check_independence(system, histories, k)
    check_no_history(system, n_items, k)


def check_valid(lists, users, n_items, k, allowed=None):
    """Shape, types, ids, padding, order; lists as long as the ``allowed`` (users,) items permit."""
    assert isinstance(lists, RankedLists)
    assert lists.items.shape == lists.scores.shape == (users, k)
    assert lists.items.dtype == np.int32
    assert lists.scores.dtype == np.float32
    assert ((lists.items >= -1) & (lists.items < n_items)).all()
    there = lists.items >= 0
    assert (np.diff(there.astype(int), axis=1) <= 0).all(), "-1 stands before an item"
    assert np.isfinite(lists.scores[there]).all()
    assert (lists.scores[~there] == -np.inf).all()
    for row, scores in zip(lists.items, lists.scores, strict=True):
        assert len(set(row[row >= 0])) == (row >= 0).sum(), "an item stands twice in a list"
        kept = scores[row >= 0]
        assert (kept[1:] <= kept[:-1]).all(), "scores rise along a list"
    remaining = np.full(users, n_items) if allowed is None else allowed
    np.testing.assert_array_equal(there.sum(axis=1), np.minimum(k, remaining))


def check_lists(system, histories, n_items, k):
    for length in (1, k, n_items + 3):
        check_valid(system.recommend(histories, length, exclude=NONE), len(histories), n_items, length)
    first, again = (system.recommend(histories, k, exclude=NONE) for _ in range(2))
    np.testing.assert_array_equal(first.items, again.items)
    np.testing.assert_array_equal(first.scores, again.scores)


def check_exclusions(system, histories, n_items, k):
    own = [set(histories.sequence(u).tolist()) for u in range(len(histories))]
    best = np.unique(system.recommend(histories, 2, exclude=NONE).items)
    cases = [
        (Exclusions(history=True), set()),
        (Exclusions(items=best[best >= 0]), set(best[best >= 0].tolist())),
        (Exclusions(history=True, items=best[:1]), set(best[:1].tolist())),
        (Exclusions(items=np.arange(n_items)), set(range(n_items))),
        (Exclusions(items=np.array([], dtype=np.int64)), set()),
    ]
    for exclude, rows in cases:
        banned = [rows | (items if exclude.history else set()) for items in own]
        for length in (k, n_items + 1):
            lists = system.recommend(histories, length, exclude=exclude)
            check_valid(lists, len(histories), n_items, length, np.array([n_items - len(b) for b in banned]))
            for row, ban in zip(lists.items, banned, strict=True):
                assert not ban & set(row.tolist())


def check_independence(system, histories, k):
    whole = system.recommend(histories, k, exclude=Exclusions(history=True))
    order = np.arange(len(histories))[::-1]
    for users in (order, order[:1], order[1:3]):
        part = system.recommend(histories.select(users), k, exclude=Exclusions(history=True))
        np.testing.assert_array_equal(part.items, whole.items[users])
        np.testing.assert_allclose(part.scores, whole.scores[users], rtol=1e-4, atol=1e-5)


def check_no_history(system, n_items, k):
    empty = Histories.from_arrays(["a", "b"], np.zeros(3, dtype=np.int64), np.array([], dtype=np.int32))
    lists = system.recommend(empty, k, exclude=Exclusions(history=True))
    check_valid(lists, 2, n_items, k)
    np.testing.assert_array_equal(lists.items[0], lists.items[1])
    check_valid(system.recommend(empty.select(np.array([], dtype=np.int64)), k, exclude=NONE), 0, n_items, k)
