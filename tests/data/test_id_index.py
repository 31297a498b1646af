import polars as pl
import pytest

from storerec.data.id_index import IdIndex


@pytest.mark.parametrize("count", [10, 5000])  # many look-ups per id known, and few
def test_rows_of_ids(count):
    ids = pl.Series([f"id-{i}" for i in range(count)])
    wanted = ["id-3", "nope", None, "id-9", "id-0", "id-3"]
    assert IdIndex(ids).rows(pl.Series(wanted)).tolist() == [3, -1, -1, 9, 0, 3]
    assert IdIndex(ids).rows([]).tolist() == []


def test_joined_knows_both():
    ids = pl.Series([f"id-{i}" for i in range(3000)])
    index = IdIndex(ids[:2000])
    for end in (2001, 2500, 3000):
        index.rows(["id-7"])
        index = index.joined(ids[:end])
    assert index.rows(["id-2999", "id-1", "id-2000", "id-2400", "x"]).tolist() == [2999, 1, 2000, 2400, -1]


def test_two_ids_of_one_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr(pl.Series, "hash", lambda self: pl.Series([7] * len(self), dtype=pl.UInt64))
    ids = pl.Series([f"id-{i}" for i in range(500)])
    index = IdIndex(ids[:400])
    index.rows(["id-1"])
    assert index.joined(ids).rows(["id-480", "id-2", "x"]).tolist() == [480, 2, -1]
