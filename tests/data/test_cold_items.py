import numpy as np
import polars as pl
import pytest

from storerec.data import Catalogue, Histories
from storerec.data.cold_items import hide_items
from storerec.errors import DataError


def made(n=10, users=30, seed=0):
    rng = np.random.default_rng(seed)
    catalogue = Catalogue.from_frame(
        pl.DataFrame({"item_id": [f"i{i}" for i in range(n)], "title": [f"title {i}" for i in range(n)]})
    )
    lengths = rng.integers(1, 9, users)
    items = rng.integers(0, n, lengths.sum()).astype(np.int32)
    ids = [f"u{u}" for u in range(users)]
    return catalogue, Histories.from_arrays(ids, np.concatenate([[0], np.cumsum(lengths)]), items)


def by_hand(catalogue, histories, hidden):
    """(user, warm ids before, target id) of cases, and each user's training ids, one event at a time."""
    cases, train = {}, {}
    for user, name in enumerate(histories.user_ids):
        ids = [catalogue.ids[int(row)] for row in histories.sequence(user)]
        warm, seen = [], None
        for one in ids:
            if one not in hidden:
                warm.append(one)
            elif warm:
                seen = (list(warm), one)
        if seen:
            cases[name] = seen
        train[name] = seen[0] if seen else warm
    return cases, {name: ids for name, ids in train.items() if ids}


@pytest.mark.parametrize("seed", range(4))
def test_parts_are_those_of_a_walk_through_every_event(seed):
    catalogue, histories = made(seed=seed)
    cold = hide_items(catalogue, histories, 0.3, seed)
    hidden = set(cold.hidden.ids)
    assert len(hidden) == 3
    assert set(cold.warm.ids) | hidden == set(catalogue.ids)
    whole = cold.warm.concat(cold.hidden)
    cases, train = by_hand(catalogue, histories, hidden)
    names = cold.cases.histories.user_ids.to_list()
    found = {
        name: ([whole.ids[int(row)] for row in cold.cases.histories.sequence(i)], whole.ids[int(cold.cases.targets[i])])
        for i, name in enumerate(names)
    }
    assert found == cases
    kept = {
        name: [whole.ids[int(row)] for row in cold.histories.sequence(i)]
        for i, name in enumerate(cold.histories.user_ids)
    }
    assert kept == train
    assert int(cold.histories.items.max()) < len(cold.warm)
    assert whole.attribute("title").to_list() == [f"title {one[1:]}" for one in whole.ids]


def test_the_draw_depends_on_ids_and_seed_alone():
    catalogue, histories = made()
    order = np.random.default_rng(3).permutation(len(catalogue))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    other = Histories(histories.user_ids, histories.offsets, place[histories.items].astype(np.int32))
    first, second = hide_items(catalogue, histories, 0.3, 5), hide_items(catalogue.select(order), other, 0.3, 5)
    assert set(first.hidden.ids) == set(second.hidden.ids)
    assert set(first.hidden.ids) != set(hide_items(catalogue, histories, 0.3, 6).hidden.ids)


@pytest.mark.parametrize("share", [0, 1, -0.1, 0.01, 0.999])
def test_a_share_that_leaves_a_side_empty_is_refused(share):
    with pytest.raises(DataError, match="share"):
        hide_items(*made(), share, 0)


def test_nobody_to_test_is_an_error():
    catalogue, _ = made()
    alone = Histories.from_arrays(["u"], np.array([0, 1]), np.array([0], np.int32))
    with pytest.raises(DataError, match="no user"):
        hide_items(catalogue, alone, 0.3, 0)
