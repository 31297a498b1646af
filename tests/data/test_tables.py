import gzip
import json
import warnings

import polars as pl
import pytest

from storerec.data import Catalogue, read_events, read_items
from storerec.data.readers.records import Layout
from storerec.errors import DataError, RowError, StorerecWarning

ITEMS = ["i0", "i1", "i2"]
CATALOGUE = Catalogue.from_frame(pl.DataFrame({"item_id": ITEMS, "title": ITEMS}))
EVENTS = [("u", "i2", 30), ("v", "i0", 5), ("u", "i1", 10), ("u", "i0", 30)]
EXPECTED = {"u": [1, 2, 0], "v": [0]}


def as_lists(histories):
    return {user: histories.sequence(u).tolist() for u, user in enumerate(histories.user_ids)}


def write(path, text, encoding="utf-8"):
    data = text if isinstance(text, bytes) else text.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def delimited(rows, separator):
    return "\n".join(separator.join(map(str, row)) for row in rows) + "\n"


def json_lines(rows, names):
    return "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)


def write_events(path, rows, names=("user_id", "item_id", "timestamp")):
    if path.suffix == ".parquet":
        pl.DataFrame(rows, schema=list(names), orient="row").write_parquet(path)
        return path
    if ".jsonl" in path.suffixes:
        return write(path, json_lines(rows, names))
    return write(path, delimited([names, *rows], "\t" if ".tsv" in path.suffixes else ","))


ENDINGS = ["csv", "tsv", "jsonl", "csv.gz", "tsv.gz", "jsonl.gz", "parquet"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_events_of_every_layout(tmp_path, ending):
    path = write_events(tmp_path / f"events.{ending}", EVENTS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert as_lists(read_events(path, CATALOGUE)) == EXPECTED


def test_other_column_names_and_more_columns(tmp_path):
    names = ("rating", "who", "what", "when")
    path = write_events(tmp_path / "e.csv", [(5, *row) for row in EVENTS], names)
    assert as_lists(read_events(path, CATALOGUE, user_id="who", item_id="what", timestamp="when")) == EXPECTED
    in_order = read_events(path, CATALOGUE, user_id="who", item_id="what", timestamp=None)
    assert as_lists(in_order) == {"u": [2, 1, 0], "v": [0]}


@pytest.mark.filterwarnings("ignore:1 of 3 items have no text")
@pytest.mark.parametrize("ending", ENDINGS)
def test_items_of_every_layout(tmp_path, ending):
    rows = [("b", "Tea", 3), ("a", 'Say "hi"', 4), ("c", "", 5)]
    if ending.startswith("csv"):
        path = write(tmp_path / f"items.{ending}", 'item_id,title,n\nb,Tea,3\na,"Say ""hi""",4\nc,"",5\n')
    elif ending.startswith("tsv"):
        path = write(tmp_path / f"items.{ending}", 'item_id\ttitle\tn\nb\tTea\t3\na\t"Say ""hi"""\t4\nc\t\t5\n')
    else:
        path = write_events(tmp_path / f"items.{ending}", rows, ("item_id", "title", "n"))
    catalogue = read_items(path)
    assert catalogue.ids.to_list() == ["b", "a", "c"]
    assert catalogue.titles.to_list() == ["Tea", 'Say "hi"', ""]  # one empty attribute is just empty
    assert catalogue.attribute("n").to_list() == ["3", "4", "5"]
    assert read_items(path, text=["title"]).attributes == ("title",)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_one_row_per_user_as_lists(tmp_path, ending):
    path = write_events(tmp_path / f"s.{ending}", [("v", ["i2", "i0"]), ("u", ["i1"])], ("user_id", "items"))
    assert as_lists(read_events(path, CATALOGUE, items="items")) == {"v": [2, 0], "u": [1]}


def test_one_row_per_user_as_text(tmp_path):
    path = write(tmp_path / "s.csv", 'user_id,items\nv,"i2,i0"\nu,i1 i2\nw,\n')
    assert as_lists(read_events(path, CATALOGUE, items="items")) == {"v": [2, 0], "u": [1, 2]}
    path = write(tmp_path / "t.csv", "user_id,items\nv,i2\nu,i1\nv,i0\n")
    with pytest.raises(RowError, match=r"t.csv, line 4, field 'user_id': user 'v' has a second row"):
        read_events(path, CATALOGUE, items="items")


def test_quotes_line_breaks_blank_lines_and_a_byte_order_mark(tmp_path):
    text = '\ufeffitem_id,title\na,"two\nlines, one title"\n\nb,5" disk\n'
    catalogue = read_items(write(tmp_path / "i.csv", text))
    assert catalogue.titles.to_list() == ["two\nlines, one title", '5" disk']
    literal = Layout("delimited", "\t", quote=None)
    text = 'item_id\ttitle\na\t"Half a quote\nb\t"Whole"\n'
    assert read_items(write(tmp_path / "i.tsv", text), layout=literal).titles.to_list() == [
        '"Half a quote',
        '"Whole"',
    ]


# One good row, then the bad one of the case, then another good row.
AROUND = {
    ".csv": (b"user_id,item_id,timestamp\nu,i0,1\n", b"v,i2,2\n"),
    ".jsonl": (
        b'{"user_id": "u", "item_id": "i0", "timestamp": 1}\n',
        b'{"user_id": "v", "item_id": "i2", "timestamp": 2}\n',
    ),
}
# Each case: the kind of file, the bad row, its line, its field and the reason.
BAD_EVENTS = [
    (".csv", b"u,i1", 3, None, "2 fields where 3 are expected"),
    (".csv", b"u,i1,2,3", 3, None, "4 fields where 3 are expected"),
    (".csv", b",i1,2", 3, "user_id", "user id is empty"),
    (".csv", b"u,,2", 3, "item_id", "item id is empty"),
    (".csv", b"\nu,i1,soon", 4, "timestamp", "neither a number"),
    (".csv", b"u,i1,", 3, "timestamp", "missing"),
    (".csv", b"u,i1,inf", 3, "timestamp", "neither a number"),
    (".csv", b"u,\xe9,2", 3, None, "byte 0xe9 at position 3 is not utf-8"),
    (".csv", b'"u\nu",i1,x', 3, "timestamp", "neither a number"),
    (".jsonl", b'{"user_id": "u",', 2, None, "not valid JSON"),
    (".jsonl", b"[1]", 2, None, "not a JSON object but a list"),
    (".jsonl", b'\n{"user_id": "u", "item_id": null, "timestamp": 1}', 3, "item_id", "item id is empty"),
    (".jsonl", b'{"user_id": "u", "item_id": "i0"}', 2, "timestamp", "missing"),
    (".jsonl", b'{"user_id": "\xff", "item_id": "i0", "timestamp": 1}', 2, None, "byte 0xff"),
    (".jsonl", b'{"user_id": "u", "item_id": "i0", "timestamp": "x"}', 2, "timestamp", "neither a number"),
]


@pytest.mark.parametrize(("kind", "row", "line", "field", "reason"), BAD_EVENTS)
def test_bad_events(tmp_path, kind, row, line, field, reason):
    before, after = AROUND[kind]
    path = write(tmp_path / f"events{kind}", before + row + b"\n" + after)
    with pytest.raises(RowError, match=reason) as caught:
        read_events(path, CATALOGUE)
    assert (caught.value.line, caught.value.field) == (line, field)
    assert str(path) in str(caught.value)
    report = f"1 bad rows were skipped; the first: .*events{kind}, line {line}.*{reason}"
    with pytest.warns(StorerecWarning, match=report):
        assert as_lists(read_events(path, CATALOGUE, bad_rows="skip")) == {"u": [0], "v": [2]}


def test_bad_row_of_a_parquet_file(tmp_path):
    path = write_events(tmp_path / "e.parquet", [("u", "i0", 1), ("u", None, 2), ("v", "i2", 3)])
    with pytest.raises(RowError, match=r"line 2, field 'item_id'"):
        read_events(path, CATALOGUE)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="not a readable Parquet"):
        read_events(path, CATALOGUE)


def test_faults_far_into_a_file(tmp_path):
    """The line is right after many fast batches, and rows before the fault are not read twice."""
    rows = [f"u{number % 7},i{number % 3},{number}" for number in range(600_000)]
    rows[500_001] = "u1,i1"
    rows[550_000] = "u1,i1,never"
    path = write(tmp_path / "e.csv", "user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    with pytest.raises(RowError) as caught:
        read_events(path, CATALOGUE)
    assert caught.value.line == 500_003
    with pytest.warns(StorerecWarning, match=r"2 bad rows were skipped; the first: .*line 500003"):
        assert read_events(path, CATALOGUE, bad_rows="skip").items.size == 599_998


def test_json_values_of_changing_type_are_read(tmp_path):
    rows = [{"user_id": 1, "item_id": "i0", "timestamp": 1}] * 150
    rows += [
        {"user_id": "1", "item_id": "i1", "timestamp": 2.5},
        {"user_id": 1, "item_id": "i2", "timestamp": "3"},
    ]
    path = write(tmp_path / "e.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    histories = read_events(path, CATALOGUE)
    assert histories.user_ids.to_list() == ["1"]
    assert histories.items.tolist() == [0] * 150 + [1, 2]


def test_unsorted_timestamps_with_ties_keep_the_file_order(tmp_path):
    path = write_events(tmp_path / "e.csv", [("u", "i2", 7), ("u", "i0", 7), ("u", "i1", 1)])
    assert as_lists(read_events(path, CATALOGUE)) == {"u": [1, 2, 0]}


def test_unknown_items(tmp_path):
    path = write_events(tmp_path / "e.csv", [*EVENTS, ("u", "gone", 1)])
    with pytest.warns(StorerecWarning, match=r"e.csv: 1 of 5 events were left out.*'gone'"):
        assert as_lists(read_events(path, CATALOGUE)) == EXPECTED
    with pytest.raises(DataError, match=r"e.csv: item 'gone' is not in the catalogue"):
        read_events(path, CATALOGUE, unknown="error")


def test_wrong_column_names(tmp_path):
    path = write_events(tmp_path / "e.csv", EVENTS, ("user", "item", "time"))
    with pytest.raises(DataError, match=r"no column 'user_id'; found 'user', 'item', 'time'; .*--user-id"):
        read_events(path, CATALOGUE)
    with pytest.raises(DataError, match="--item-id"):
        read_events(path, CATALOGUE, user_id="user")
    with pytest.raises(DataError, match="--timestamp"):
        read_events(path, CATALOGUE, user_id="user", item_id="item")
    with pytest.raises(DataError, match=r"no column 'item_id'; found .*--item-id"):
        read_items(path)
    with pytest.raises(DataError, match="column 'a' occurs twice"):
        read_items(write(tmp_path / "i.csv", "a,a\n1,2\n"), item_id="a")
    path = write(tmp_path / "e.jsonl", '{"user": 1}\n')
    with pytest.raises(DataError, match="no column 'user_id'; found 'user'"):
        read_events(path, CATALOGUE)


@pytest.mark.parametrize("name", ["e.csv", "e.jsonl", "e.parquet", "e.tsv"])
def test_empty_and_missing_files(tmp_path, name):
    with pytest.raises(DataError, match="no such file"):
        read_events(tmp_path / name, CATALOGUE)
    (tmp_path / name).touch()
    for read in (lambda path: read_events(path, CATALOGUE), read_items):
        with pytest.raises(DataError, match="the file is empty"):
            read(tmp_path / name)


@pytest.mark.parametrize("name", ["e.csv", "e.csv.gz", "e.jsonl.gz"])
def test_files_without_rows(tmp_path, name):
    header = "" if "json" in name else "user_id,item_id,timestamp\n"
    path = write(tmp_path / name, header)
    for read in (lambda path: read_events(path, CATALOGUE), read_items):
        with pytest.raises(DataError, match=r"there are no (events|items|rows)"):
            read(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="unknown kind of file"):
        read_items(write(tmp_path / "items.xlsx", "x"))
    with pytest.raises(DataError, match="is a folder"):
        read_items(tmp_path)
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(gzip.compress(b"item_id,title\n" + b"a,b\n" * 100_000)[:-30])
    with pytest.raises(DataError, match="cannot be read"):
        read_items(path)
    path = write(tmp_path / "wide.csv", "item_id,title\na,b\n", "utf-16")
    with pytest.raises(DataError, match="convert the file to UTF-8"):
        read_items(path, encoding="utf-16")
    with pytest.raises(DataError, match="unknown encoding"):
        read_items(path, encoding="utf-99")
    with pytest.raises(DataError, match="bad_rows must be"):
        read_items(path, bad_rows="ignore")


@pytest.mark.parametrize("name", ["i.csv", "i.jsonl", "i.csv.gz"])
def test_other_encodings(tmp_path, name):
    text = "item_id,title\na,Café\n" if ".csv" in name else '{"item_id": "a", "title": "Café"}\n'
    path = write(tmp_path / name, text, "latin-1")
    with pytest.raises(RowError, match=r"convert the file to UTF-8 or pass its encoding.*latin-1"):
        read_items(path)
    assert read_items(path, encoding="latin-1").titles.to_list() == ["Café"]


def test_duplicate_items(tmp_path):
    path = write(tmp_path / "i.csv", 'item_id,title\na,"x\ny"\n\nb,z\na,w\nb,v\n')
    with pytest.raises(RowError, match=r"i.csv, line 6, field 'item_id': item id 'a' occurs a second time"):
        read_items(path)
    with pytest.warns(StorerecWarning, match=r"2 rows repeat an item id.*'a' in line 6"):
        assert read_items(path, duplicates="first").titles.to_list() == ["x\ny", "z"]


def test_bad_items(tmp_path):
    path = write(tmp_path / "i.csv", "item_id,title\na,x\n,y\nb,z\n")
    with pytest.raises(RowError, match="line 3, field 'item_id': the item id is empty"):
        read_items(path)
    with pytest.warns(StorerecWarning, match="1 bad rows"):
        assert read_items(path, bad_rows="skip").ids.to_list() == ["a", "b"]
    path = write(tmp_path / "j.jsonl", "{'item_id': 'a'}\n")
    with pytest.raises(RowError, match="line 1: not valid JSON"):
        read_items(path)


def test_items_without_text_and_alike(tmp_path):
    path = write(tmp_path / "i.csv", "item_id,title,brand\na,,\nb,x,y\nc,x,y\n")
    with pytest.warns(StorerecWarning, match="1 of 3 items have no text, for example 'a'"):
        assert len(read_items(path)) == 3


def test_a_null_text_stays_a_text(tmp_path):
    path = write(tmp_path / "i.csv", "item_id,title\na,NA\nnull,nan\n")
    catalogue = read_items(path)
    assert catalogue.ids.to_list() == ["a", "null"]
    assert catalogue.titles.to_list() == ["NA", "nan"]


def test_json_items_with_lists_objects_and_missing_keys(tmp_path):
    rows = [{"item_id": 1, "title": "a", "tags": ["x", "y"]}, {"item_id": 2, "more": {"k": [1]}, "tags": "z"}]
    path = write(tmp_path / "i.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    catalogue = read_items(path)
    assert catalogue.attributes == ("title", "tags", "more")
    assert catalogue.frame.rows() == [("1", "a", "x, y", ""), ("2", "", "z", '{"k": [1]}')]


def test_an_index_column_is_no_text_and_twin_columns_are_refused(tmp_path):
    assert read_items(write(tmp_path / "i.csv", ",item_id,title\n0,a,b\n")).attributes == ("title",)
    with pytest.raises(DataError, match="column 'title' occurs twice"):
        read_items(write(tmp_path / "i.csv", "item_id,title,title\na,b,c\n"))


def test_an_unusable_first_timestamp_spoils_no_other(tmp_path):
    path = write(tmp_path / "e.csv", "user_id,item_id,timestamp\nu,i0,never\nu,i1,2020-01-02\nu,i2,2020-01-01\n")
    with pytest.raises(RowError, match="line 2, field 'timestamp'"):
        read_events(path, CATALOGUE)
    with pytest.warns(StorerecWarning, match="1 bad rows"):
        assert as_lists(read_events(path, CATALOGUE, bad_rows="skip")) == {"u": [2, 1]}


def test_columns_that_are_no_text(tmp_path):
    table = pl.DataFrame({"item_id": ["a"], "v": pl.Series([[1, 2]], dtype=pl.Array(pl.Int64, 2)), "s": [{"k": 1}]})
    table.write_parquet(tmp_path / "i.parquet")
    assert read_items(tmp_path / "i.parquet").frame.row(0) == ("a", "1, 2", '{"k":1}')
    pl.DataFrame({"item_id": ["a"], "v": [b"\xff"]}).write_parquet(tmp_path / "i.parquet")
    with pytest.raises(DataError, match=r"cannot be turned into text.*--text"):
        read_items(tmp_path / "i.parquet")
