from dataclasses import replace

import numpy as np
import pytest

from storerec.codes import CodeTable, CodeTree
from storerec.data.histories import Histories
from storerec.data.splits import Cases, leave_one_out, split_users
from storerec.errors import DataError
from storerec.evaluation.leaks import check_excluded, check_lists, check_split, check_tree


def make(sequences, names=None):
    offsets = np.cumsum([0, *map(len, sequences)])
    items = np.array([i for s in sequences for i in s], dtype=np.int32)
    return Histories.from_arrays(names or [f"u{u}" for u in range(len(sequences))], offsets, items)


@pytest.fixture(scope="module")
def histories():
    """40 users of 1 to 15 events over 12 items, so that items repeat within users."""
    rng = np.random.default_rng(0)
    return make([rng.integers(0, 12, rng.integers(1, 16)).tolist() for _ in range(40)])


@pytest.fixture(scope="module", params=["leave_one_out", "users"])
def split(request, histories):
    return leave_one_out(histories) if request.param == "leave_one_out" else split_users(histories, 8, 0.2, 6, 0)


def with_input(cases, user, sequence):
    lists = [cases.histories.sequence(u).tolist() for u in range(len(cases))]
    lists[user] = sequence
    return Cases(make(lists, cases.histories.user_ids.to_list()), cases.targets)


def test_real_splits_pass(histories, split):
    check_split(histories, split)
    # Order of the full histories does not matter, nor do inputs cut at their start.
    check_split(histories.select(np.random.default_rng(1).permutation(len(histories))), split)
    check_split(histories, replace(split, test=Cases(split.test.histories.tail(2), split.test.targets)))


def test_target_in_the_input_is_a_leak(histories, split):
    for part in ("validation", "test"):
        cases = getattr(split, part)
        lists = [[*cases.histories.sequence(u).tolist(), int(t)] for u, t in enumerate(cases.targets)]
        leaked = Cases(make(lists, cases.histories.user_ids.to_list()), cases.targets)
        with pytest.raises(DataError, match=f"{part}.*user 'u"):
            check_split(histories, replace(split, **{part: leaked}))


def test_target_in_place_of_an_input_is_found(histories):
    full = make([[1, 2, 3, 4], [5, 6, 7, 8]])
    split = leave_one_out(full)
    leaked = with_input(split.test, 1, [6, 7, 8])
    with pytest.raises(DataError, match="test: event 1 of user 'u1'"):
        check_split(full, replace(split, test=leaked))


def test_another_target_is_found(histories, split):
    targets = split.test.targets.copy()
    targets[3] = (targets[3] + 1) % 12
    name = split.test.histories.user_ids[3]
    with pytest.raises(DataError, match=f"test case of user '{name}'"):
        check_split(histories, replace(split, test=Cases(split.test.histories, targets)))


def test_held_out_events_in_training_are_a_leak(histories):
    split = leave_one_out(histories)
    lengths = histories.lengths
    for back in (0, 1):  # with the test event, and with the validation event only
        train = histories.slice_each(np.zeros_like(lengths), lengths - back)
        with pytest.raises(DataError, match="leak: training has"):
            check_split(histories, replace(split, train=train))


def test_test_users_in_training_are_a_leak(histories):
    split = split_users(histories, 8, 0.2, 6, 0)
    with pytest.raises(DataError, match="in training and in test"):
        check_split(histories, replace(split, train=histories.tail(6)))
    with pytest.raises(DataError, match="in training and in validation"):
        check_split(
            histories, replace(split, validation=Cases(split.train, split.train.items[split.train.offsets[1:] - 1]))
        )
    with pytest.raises(DataError, match="in validation and in test"):
        check_split(histories, replace(split, validation=split.test))


def test_changed_training_events_and_strangers_are_found(histories, split):
    items = split.train.items.copy()
    items[0] = (items[0] + 1) % 12
    train = Histories(split.train.user_ids, split.train.offsets, items)
    with pytest.raises(DataError, match="training: event 1 of user"):
        check_split(histories, replace(split, train=train))
    stranger = make([[1, 2, 3]], ["nobody"])
    with pytest.raises(DataError, match="'nobody' is not in the full histories"):
        check_split(histories, replace(split, test=Cases(stranger, np.array([4], np.int32))))
    with pytest.raises(DataError, match="'by_moon'"):
        check_split(histories, replace(split, protocol="by_moon"))


def test_trees_cover_the_catalogue():
    codes = np.array([[0, 1], [0, 1], [1, 0], [1, 1]])
    table = CodeTable.build(codes, (2, 2))
    tree = CodeTree.from_table(table)
    check_tree(table, 4)
    check_tree(tree, 4, table=table)
    for short in (table, tree):
        with pytest.raises(DataError, match="4 items, the catalogue 5"):
            check_tree(short, 5)
    swapped = CodeTable.build(codes[[2, 0, 1, 3]], (2, 2))
    with pytest.raises(DataError, match="item row 0"):
        check_tree(tree, 4, table=swapped)
    with pytest.raises(DataError, match="leaf 0 has no item"):
        check_tree(replace(tree, tuple_of=np.array([1, 1, 1, 2], np.int32)), 4)
    with pytest.raises(DataError, match="item row 3 lies under no leaf"):
        check_tree(replace_tuples(tree, [0, 0, 1, -1]), 4)


def replace_tuples(tree, rows):
    # The tree's own constructor counts leaves, so the damage is done afterwards.
    broken = replace(tree)
    object.__setattr__(broken, "tuple_of", np.array(rows, np.int32))
    return broken


def test_lists():
    good = np.array([[2, 0, 1], [4, -1, -1], [-1, -1, -1]], np.int32)
    check_lists(good, 5)
    for bad, match in [
        ([[0, 1], [2, 2]], "user 'b', place 2 repeats item row 2"),
        ([[0, 1], [5, 2]], "user 'b', place 1 has item row 5"),
        ([[0, -2], [1, 2]], "user 'a', place 2 has item row -2"),
        ([[-1, 1], [1, 2]], "user 'a', place 2 comes after an empty place"),
    ]:
        with pytest.raises(DataError, match=match):
            check_lists(np.array(bad, np.int32), 5, user_ids=["a", "b"])
    with pytest.raises(DataError, match="user number 1, place 3 repeats item row 0"):
        check_lists(np.array([[0, 1, 2], [0, 1, 0]]), 5)
    for bad in (np.zeros(3, int), np.zeros((1, 2))):
        with pytest.raises(DataError, match="must be integers"):
            check_lists(bad, 5)


def test_excluded_histories():
    histories = make([[0, 1], [2, 3]])
    check_excluded(np.array([[2, 3], [0, -1]]), histories, 5)
    with pytest.raises(DataError, match="user 'u1', place 2 has item row 3"):
        check_excluded(np.array([[2, 3], [0, 3]]), histories, 5)
