import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storerec.data import Catalogue, Histories
from storerec.errors import DataError, StorerecWarning

ITEMS = ["i0", "i1", "i2", "i3", "i4"]
CATALOGUE = Catalogue.from_frame(pl.DataFrame({"item_id": ITEMS, "title": ITEMS}))


def frame(rows, names=("user_id", "item_id", "timestamp")):
    return pl.DataFrame(rows, schema=list(names), orient="row")


def as_lists(histories: Histories) -> dict[str, list[int]]:
    return {user: histories.sequence(u).tolist() for u, user in enumerate(histories.user_ids)}


def naive(rows) -> dict[str, list[int]]:
    """Sort each user's events one by one, as the documentation says it."""
    users: dict[str, list[tuple[float, int, int]]] = {}
    for number, (user, item, time) in enumerate(rows):
        if item in ITEMS:
            users.setdefault(user, []).append((time, number, ITEMS.index(item)))
    return {user: [item for _, _, item in sorted(events)] for user, events in users.items()}


EVENTS = st.lists(
    st.tuples(st.sampled_from(["u", "v", "w", "x y", "é"]), st.sampled_from([*ITEMS, "gone"]), st.integers(-5, 5)),
    min_size=1,
    max_size=40,
).filter(lambda rows: any(item in ITEMS for _, item, _ in rows))


@pytest.mark.filterwarnings("ignore::storerec.errors.StorerecWarning")
@settings(max_examples=60, deadline=None)
@given(rows=EVENTS)
def test_from_events_is_a_stable_sort_per_user(rows):
    histories = Histories.from_events(frame(rows), CATALOGUE)
    expected = naive(rows)
    assert as_lists(histories) == expected
    assert histories.user_ids.to_list() == list(expected)  # users by first appearance
    assert histories.offsets.dtype == np.int64
    assert histories.items.dtype == np.int32
    lazy = Histories.from_events(frame(rows).lazy(), CATALOGUE)
    assert as_lists(lazy) == expected


@settings(max_examples=40, deadline=None)
@given(
    lists=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=6), min_size=1, max_size=6),
    data=st.data(),
)
def test_cuts_and_selections(lists, data):
    users = [f"u{number}" for number in range(len(lists))]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in lists])])
    histories = Histories.from_arrays(users, offsets, np.concatenate(lists))
    n = data.draw(st.integers(1, 7))
    assert list(as_lists(histories.tail(n)).values()) == [part[-n:] for part in lists]
    chosen = data.draw(st.permutations(range(len(lists))))[: data.draw(st.integers(0, len(lists)))]
    expected = [(users[u], lists[u]) for u in chosen]
    assert list(as_lists(histories.select(np.array(chosen, dtype=int))).items()) == expected
    mask = np.isin(np.arange(len(lists)), chosen)
    assert as_lists(histories.select(mask)) == {users[u]: lists[u] for u in sorted(chosen)}
    assert histories.lengths.tolist() == [len(part) for part in lists]
    flat = [item for part in lists for item in part]
    assert histories.item_counts(5).tolist() == [flat.count(item) for item in range(5)]
    assert histories.rows(["nobody", *users]).tolist() == [-1, *range(len(lists))]


def test_timestamps_as_text_dates_and_numbers():
    rows = [("u", "i0", 3), ("u", "i1", 1), ("u", "i2", 2)]
    expected = [1, 2, 0]
    day = pl.col("timestamp")
    for times in (
        day.cast(pl.String),
        day + 0.5,
        pl.date(2020, 1, day),
        pl.datetime(2020, 1, day),
        pl.format("2020-01-0{}", day),
        pl.format("2020-01-0{} 10:00:00", day),
        pl.format("2020-01-0{}T10:00:00.5", day),
        pl.format("2020-01-0{}T10:00:00Z", day),
        pl.format("2020-01-0{} 10:00:00+02:00", day),
        pl.datetime(2020, 1, day, time_zone="UTC"),
        pl.format("11/0{}/2019 8:55:22 AM", day),
    ):
        events = frame(rows).with_columns(times.alias("timestamp"))
        assert Histories.from_events(events, CATALOGUE).items.tolist() == expected, times


def test_numbers_as_text_sort_as_numbers():
    histories = Histories.from_events(frame([("u", "i0", "10"), ("u", "i1", "9")]), CATALOGUE)
    assert histories.items.tolist() == [1, 0]


def test_without_timestamp_the_rows_are_in_order():
    rows = frame([("u", "i3"), ("v", "i0"), ("u", "i1")], ("user_id", "item_id"))
    assert as_lists(Histories.from_events(rows, CATALOGUE, timestamp=None)) == {"u": [3, 1], "v": [0]}


def test_unknown_items():
    rows = [("u", "i0", 1), ("u", "n1", 2), ("v", "n2", 1), ("w", "n1", 1), ("w", "n3", 2), ("w", "n4", 2)]
    with pytest.warns(StorerecWarning, match="5 of 6 events were left out.*'n1', 'n2', 'n3'$") as caught:
        histories = Histories.from_events(frame(rows), CATALOGUE)
    assert len(caught) == 1
    assert as_lists(histories) == {"u": [0]}  # a user without known items is no user
    with pytest.raises(DataError, match="item 'n1' is not in the catalogue"):
        Histories.from_events(frame(rows), CATALOGUE, unknown="error")
    with pytest.raises(DataError, match="none of the 1 events names an item"):
        Histories.from_events(frame(rows[1:2]), CATALOGUE)


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (
            frame([("u", "i0", 1)], ("user", "item_id", "timestamp")),
            "no column 'user_id'; found user, .*--user-id",
        ),
        (frame([("u", "i0")], ("user_id", "item_id")), "no column 'timestamp'.*--timestamp"),
        (frame([("", "i0", 1)]), "1 rows have an empty 'user_id'"),
        (frame([("u", None, 1), ("u", "i0", 1)]), "1 rows have an empty 'item_id'"),
        (frame([("u", "i0", None), ("u", "i0", 1)]), "no usable 'timestamp'"),
        (frame([("u", "i0", "5"), ("u", "i0", "soon")]), "no usable 'timestamp', for example 'soon'"),
        (
            frame([("u", "i0", "5"), ("u", "i0", "2020-01-01")]),
            "no usable 'timestamp', for example '2020-01-01'",
        ),
        (frame([("u", "i0", float("nan"))]), "no usable 'timestamp'"),
        (frame([("u", "i0", True)]), "no usable 'timestamp'"),
        (frame([("u", "i0", 1)]).clear(), "there are no events"),
    ],
)
def test_unusable_events(events, message):
    with pytest.raises(DataError, match=message):
        Histories.from_events(events, CATALOGUE)


def test_from_sequences():
    lists = pl.DataFrame({"user_id": ["b", "a", "c"], "items": [["i2", "i0"], [], ["i4"]]})
    expected = {"b": [2, 0], "c": [4]}  # a user without items is left out
    assert as_lists(Histories.from_sequences(lists, CATALOGUE)) == expected
    for separator in (" ", ",", ", "):
        text = lists.with_columns(pl.col("items").list.join(separator))
        assert as_lists(Histories.from_sequences(text, CATALOGUE)) == expected
    with pytest.raises(DataError, match="user 'b' occurs twice"):
        Histories.from_sequences(pl.concat([lists, lists]), CATALOGUE)
    with pytest.raises(DataError, match=r"no column 'history'.*--sequences"):
        Histories.from_sequences(lists, CATALOGUE, items="history")


@pytest.mark.parametrize(
    ("users", "offsets", "items"),
    [
        (["a"], [0, 1, 2], [0, 1]),
        (["a", "b"], [0, 3, 2], [0, 1]),
        (["a"], [0, 1], [-1]),
        (["a", "a"], [0, 1, 2], [0, 1]),
        (["a", ""], [0, 1, 2], [0, 1]),
        (["a"], [1, 2], [0, 1]),
    ],
)
def test_arrays_that_do_not_fit(users, offsets, items):
    with pytest.raises(DataError):
        Histories.from_arrays(users, np.array(offsets), np.array(items))


def test_parquet_round_trip(tmp_path):
    histories = Histories.from_arrays(["b", "a"], np.array([0, 2, 3]), np.array([3, 1, 3]))
    path = tmp_path / "histories.parquet"
    histories.write_parquet(path)
    again = Histories.read_parquet(path)
    assert again.user_ids.to_list() == ["b", "a"]
    assert again.offsets.tolist() == [0, 2, 3]
    assert again.items.tolist() == [3, 1, 3]
    assert again.items.dtype == np.int32
    histories.select(np.array([], dtype=int)).write_parquet(path)  # no user at all
    assert len(Histories.read_parquet(path)) == 0
    CATALOGUE.write_parquet(path)
    with pytest.raises(DataError, match="not histories"):
        Histories.read_parquet(path)
