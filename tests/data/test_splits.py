import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storerec.data import Catalogue, Histories, SplitConfig, leave_one_out, split, split_users
from storerec.errors import DataError

ITEMS = [f"i{number}" for number in range(60)]
CATALOGUE = Catalogue.from_frame(pl.DataFrame({"item_id": ITEMS, "title": ITEMS}))


def histories_of(lengths) -> Histories:
    """Give each user other items, so that an item in the wrong part is seen."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Histories.from_arrays([f"u{u:03}" for u in range(len(lengths))], offsets, np.arange(offsets[-1]))


def as_lists(histories: Histories) -> dict[str, list[int]]:
    return {user: histories.sequence(u).tolist() for u, user in enumerate(histories.user_ids)}


LENGTHS = st.lists(st.integers(1, 8), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS.filter(lambda lengths: max(lengths) >= 3))
def test_leave_one_out(lengths):
    histories = histories_of(lengths)
    whole, result = as_lists(histories), leave_one_out(histories)
    long = [user for user, items in whole.items() if len(items) >= 3]
    for cases, back in ((result.test, 1), (result.validation, 2)):
        assert as_lists(cases.histories) == {user: whole[user][:-back] for user in long}
        assert cases.targets.tolist() == [whole[user][-back] for user in long]
        assert cases.targets.dtype == np.int32
        # Items are unique here, so a target in training would be a leak.
        assert not set(cases.targets.tolist()) & set(result.train.items.tolist())
    train = {user: items[:-2] if user in long else items for user, items in whole.items()}
    assert as_lists(result.train) == train
    short = len(lengths) - len(long)
    assert result.notes == (() if not short else (f"{short} of {len(lengths)} users have fewer than 3 items: "
                                                  "they serve training only",))  # fmt: skip


def test_a_target_seen_before_stays_in_training():
    histories = Histories.from_arrays(["u"], np.array([0, 4]), np.array([5, 1, 2, 5]))
    result = leave_one_out(histories)
    assert result.test.targets.tolist() == [5]
    assert result.train.items.tolist() == [5, 1]


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, data=st.data())
def test_split_users(lengths, data):
    histories = histories_of(lengths)
    able = sum(length >= 2 for length in lengths)
    test_users, max_items = data.draw(st.integers(1, 6)), data.draw(st.integers(2, 6))
    share, seed = data.draw(st.sampled_from([0.0, 0.1, 0.5])), data.draw(st.integers(0, 3))
    if able <= test_users:
        with pytest.raises(DataError, match="test users are wanted"):
            split_users(histories, test_users, share, max_items, seed)
        return
    result = split_users(histories, test_users, share, max_items, seed)
    recent = {user: items[-max_items:] for user, items in as_lists(histories).items()}
    seen = as_lists(result.train)
    assert all(recent[user] == items for user, items in seen.items())
    for cases in (result.validation, result.test):
        part = as_lists(cases.histories)
        assert not part.keys() & seen.keys()  # no user in two parts
        assert part == {user: recent[user][:-1] for user in part}
        assert cases.targets.tolist() == [recent[user][-1] for user in part]
        seen |= part
    assert seen.keys() == recent.keys()
    assert len(result.test) == test_users
    rest = able - test_users
    assert len(result.validation) == (max(1, round(share * rest)) if share and rest > 1 else 0)
    assert (able == len(lengths)) == (result.notes == ())


def test_the_seed_decides_and_nothing_else():
    histories = histories_of([5] * 40)
    config = SplitConfig(protocol="users", test_users=10)
    first, again, other = (split(histories, config, seed) for seed in (1, 1, 2))
    assert first.test.histories.user_ids.equals(again.test.histories.user_ids)
    assert first.validation.histories.user_ids.equals(again.validation.histories.user_ids)
    assert not first.test.histories.user_ids.equals(other.test.histories.user_ids)
    assert split(histories, SplitConfig(), 1).protocol == "leave_one_out"


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(30)), protocol=st.sampled_from(["leave_one_out", "users"]))
def test_the_order_of_rows_does_not_matter(order, protocol):
    rng = np.random.default_rng(3)
    events = pl.DataFrame(
        {
            "user_id": [f"u{number}" for number in [0, 1, 2, 3, 4, 5] * 5],
            "item_id": [ITEMS[row] for row in rng.integers(0, 60, 30)],
            "timestamp": rng.permutation(30),
        }
    )
    config = SplitConfig(protocol=protocol, test_users=2, validation_share=0.3)
    results = [split(Histories.from_events(rows, CATALOGUE), config, 5) for rows in (events, events[list(order)])]
    for part in ("train", "validation", "test"):
        first, second = (getattr(result, part) for result in results)
        if part != "train":
            pairs = [dict(zip(c.histories.user_ids, c.targets.tolist(), strict=True)) for c in (first, second)]
            assert pairs[0] == pairs[1]
            first, second = first.histories, second.histories
        assert as_lists(first) == as_lists(second)


def test_nothing_to_test():
    with pytest.raises(DataError, match="no user has 3 items"):
        leave_one_out(histories_of([2, 1]))
