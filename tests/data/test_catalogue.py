import warnings

import numpy as np
import polars as pl
import pytest

from storerec.data import Catalogue
from storerec.errors import DataError, StorerecWarning


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue.from_frame(
        pl.DataFrame({"id": [7, 3, 5], "brand": ["x", None, "z"], "title": ["A", "B", ""]}), item_id="id"
    )


def test_order_types_and_attributes(catalogue):
    assert catalogue.ids.to_list() == ["7", "3", "5"]  # the table's order, never sorted
    assert catalogue.attributes == ("brand", "title")
    assert catalogue.title_attribute == "title"
    assert catalogue.titles.to_list() == ["A", "B", ""]
    assert catalogue.attribute("brand").to_list() == ["x", "", "z"]  # null becomes empty text
    assert set(catalogue.frame.dtypes) == {pl.String}
    assert len(catalogue) == 3


def test_rows_of_ids(catalogue):
    rows = catalogue.rows(["5", "unknown", "7", "7"])
    assert rows.dtype == np.int64
    assert rows.tolist() == [2, -1, 0, 0]
    assert catalogue.rows([]).tolist() == []
    assert catalogue.rows(pl.Series([None, "3"])).tolist() == [-1, 1]


def test_other_types_become_text():
    frame = pl.DataFrame({"item_id": ["a", "b"], "tags": [["x", "y"], []], "price": [1.5, None], "n": [1, 2]})
    catalogue = Catalogue.from_frame(frame)
    assert catalogue.attribute("tags").to_list() == ["x, y", ""]
    assert catalogue.attribute("price").to_list() == ["1.5", ""]
    assert catalogue.attribute("n").to_list() == ["1", "2"]


def test_concat_keeps_rows(catalogue):
    more = Catalogue.from_frame(pl.DataFrame({"item_id": ["9"], "title": ["N"], "brand": ["b"]}))
    joined = catalogue.concat(more)
    assert joined.ids.to_list() == ["7", "3", "5", "9"]
    assert joined.attributes == catalogue.attributes
    with pytest.raises(DataError, match="'7' occurs in both"):
        catalogue.concat(catalogue)
    other = Catalogue.from_frame(pl.DataFrame({"item_id": ["9"], "title": ["N"]}))
    with pytest.raises(DataError, match="different attributes"):
        catalogue.concat(other)


@pytest.mark.parametrize(
    ("frame", "arguments", "message"),
    [
        ({"sku": ["a"], "title": ["t"]}, {}, "no column 'item_id'; found sku, title; .*--item-id"),
        ({"item_id": ["a"]}, {}, "no text column"),
        ({"item_id": ["a"], "t": ["x"]}, {"text": ["name"]}, "no text column 'name'"),
        ({"item_id": ["a"], "t": ["x"]}, {"title": "name"}, "title attribute 'name'"),
        ({"item_id": ["a", "a"], "t": ["x", "y"]}, {}, "'a' occurs twice, the second time in row 2"),
        ({"item_id": ["a", None], "t": ["x", "y"]}, {}, "empty id, the first in row 2"),
        ({"item_id": pl.Series([], dtype=pl.String), "t": pl.Series([], dtype=pl.String)}, {}, "no items"),
    ],
)
def test_unusable_tables(frame, arguments, message):
    with pytest.raises(DataError, match=message):
        Catalogue.from_frame(pl.DataFrame(frame), **arguments)


def test_item_without_text_is_kept_with_a_warning():
    frame = pl.DataFrame({"item_id": ["a", "b", "c"], "t": ["x", " ", ""], "u": ["", None, "y"]})
    with pytest.warns(StorerecWarning, match="1 of 3 items have no text, for example 'b'"):
        assert len(Catalogue.from_frame(frame)) == 3


def test_two_items_with_one_text_are_fine():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(Catalogue.from_frame(pl.DataFrame({"item_id": ["a", "b"], "t": ["x", "x"]}))) == 2


def test_parquet_round_trip(catalogue, tmp_path):
    path = tmp_path / "new" / "items.parquet"
    catalogue.write_parquet(path)
    again = Catalogue.read_parquet(path)
    assert again.frame.equals(catalogue.frame)
    assert again.title_attribute == catalogue.title_attribute
    assert [entry.name for entry in path.parent.iterdir()] == ["items.parquet"]  # no temporary file stays


def test_reading_something_else(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        Catalogue.read_parquet(tmp_path / "none.parquet")
    pl.DataFrame({"item_id": ["a"]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(DataError, match="not a catalogue"):
        Catalogue.read_parquet(tmp_path / "other.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match="not a readable Parquet"):
        Catalogue.read_parquet(tmp_path / "broken.parquet")
