import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storerec.data.histories import Histories
from storerec.errors import DataError
from storerec.systems import popularity
from storerec.systems.base import Exclusions, RankedLists
from storerec.systems.markov import Markov
from storerec.systems.popularity import Popularity
from tests.systems.conformance import check_system


def make(*sequences):
    offsets = np.cumsum([0, *map(len, sequences)])
    items = np.array([i for s in sequences for i in s], dtype=np.int32)
    return Histories.from_arrays([f"u{u}" for u in range(len(sequences))], offsets, items)


def random_histories(users, n_items, seed):
    rng = np.random.default_rng(seed)
    return make(*(rng.zipf(1.5, size=rng.integers(0, 12)) % n_items for _ in range(users)))


@pytest.mark.parametrize("system", [Popularity, Markov])
@pytest.mark.parametrize("n_items", [5, 60])
def test_conformance(system, n_items):
    train = random_histories(80, n_items, 0)
    check_system(system.fit(train, n_items), random_histories(25, n_items, 1), n_items)


@pytest.mark.parametrize("system", [Popularity, Markov])
def test_conformance_without_training_events_and_in_small_batches(system, monkeypatch):
    check_system(system.fit(make([], []), 7), random_histories(10, 7, 1), 7)
    monkeypatch.setattr(popularity, "_CELLS", 100)
    check_system(system.fit(random_histories(30, 40, 3), 40), random_histories(10, 40, 1), 40)


def test_popularity_by_hand():
    system = Popularity.fit(make([2, 2, 0], [2, 3], [0]), 5)
    lists = system.recommend(make([2], []), 4, exclude=Exclusions(history=True))
    assert lists.items.tolist() == [[0, 3, 1, 4], [2, 0, 3, 1]]
    assert lists.scores.tolist() == [[2, 1, 0, 0], [3, 2, 1, 0]]


def test_markov_by_hand():
    # After 0: 1 twice, 2 and 3 once each; 3 is more popular than 2. No pair runs over a user's end (4 -> 0).
    system = Markov.fit(make([0, 1, 0, 2, 4], [0, 1, 3], [], [0, 3], [4]), 6)
    lists = system.recommend(make([4, 0], [4], [0, 3]), 5, exclude=Exclusions())
    assert lists.items.tolist() == [[1, 3, 2, 0, 4], [0, 1, 3, 4, 2], [0, 1, 3, 4, 2]]
    np.testing.assert_allclose(lists.scores[0], [2.4, 1.4, 1.2, 0.8, 0.4], rtol=1e-6)
    lists = system.recommend(make([1, 0]), 6, exclude=Exclusions(history=True, items=np.array([3])))
    assert lists.items.tolist() == [[2, 4, 5, -1, -1, -1]]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.integers(1, 15))
def test_markov_is_the_sorted_score(seed, exclude_history, k):
    n_items = 12
    train, histories = random_histories(15, n_items, seed), random_histories(6, n_items, seed + 1)
    lists = Markov.fit(train, n_items).recommend(histories, k, exclude=Exclusions(history=exclude_history))
    pairs = np.zeros((n_items, n_items))
    for user in range(len(train)):
        for a, b in zip(train.sequence(user)[:-1], train.sequence(user)[1:], strict=True):
            pairs[a, b] += 1
    counts = train.item_counts(n_items)
    for user in range(len(histories)):
        own = histories.sequence(user)
        score = counts / (counts.max() + 1) + (pairs[own[-1]] if len(own) else 0)
        order = [i for i in np.lexsort((np.arange(n_items), -score)) if not (exclude_history and i in own)][:k]
        assert lists.items[user, : len(order)].tolist() == order
        np.testing.assert_allclose(lists.scores[user, : len(order)], score[order], rtol=1e-6)


def test_bad_input_is_a_data_error():
    for system in (Popularity, Markov):
        with pytest.raises(DataError, match="row 5"):
            system.fit(make([1, 5]), 5)
        with pytest.raises(DataError, match=r"0\.\.4"):
            system.fit(make([1]), 5).recommend(make([1]), 2, exclude=Exclusions(items=np.array([5])))
    with pytest.raises(DataError):
        RankedLists(np.zeros((2, 3), np.int32), np.zeros((2, 2), np.float32))
