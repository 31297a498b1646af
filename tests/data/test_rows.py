"""The fast readers and the line-by-line readers must agree, row by row."""

import csv
import io
import json
import pickle

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storerec.data.readers.records import Layout, records
from storerec.data.readers.rows import RECORD, RowReader
from storerec.errors import DataError, RowError, StorerecWarning

TEXT = st.text(alphabet='ab,"\n\té \\;|', max_size=6)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(path, layout, columns):
    reader = RowReader(path, layout)
    frame = pl.concat(reader.batches(columns))
    return reader, frame


@QUICK
@given(
    rows=st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=8),
    separator=st.sampled_from([",", "\t", "|"]),
)
def test_quoted_text(tmp_path, rows, separator):
    text, starts = io.StringIO(newline=""), []
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerow(("x", "y", "z"))
    for row in rows:
        starts.append(text.getvalue().count("\n") + 1)
        writer.writerow(row)
    path = tmp_path / "rows.csv"
    path.write_bytes(text.getvalue().encode())
    layout = Layout("delimited", separator)
    reader, frame = read(path, layout, ["z", "x"])
    assert frame.select("z", "x").rows() == [(z, x) for x, _, z in rows]
    assert frame[RECORD].to_list() == list(range(len(rows)))
    assert [reader.line(number) for number in range(len(rows))] == starts
    slow = [record.values for record in records(path, layout, "utf-8")]
    assert slow == [dict(zip("xyz", row, strict=True)) for row in rows]


@QUICK
@given(rows=st.lists(st.fixed_dictionaries({"x": TEXT, "y": st.integers(-9, 9)}, optional={"z": TEXT}), min_size=1))
def test_json(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n\n" for row in rows), encoding="utf-8")
    reader, frame = read(path, None, ["x", "y", "z"])
    assert frame["y"].dtype == pl.Int64  # the fast reader took it
    expected = [(row["x"], row["y"], row.get("z")) for row in rows]
    assert frame.select("x", "y", "z").rows() == expected
    assert [reader.line(number) for number in range(len(rows))] == [2 * n + 1 for n in range(len(rows))]
    assert [record.values for record in records(path, Layout("json"), "utf-8")] == rows


def test_very_long_fields(tmp_path):
    """Longer than the csv module's default limit, and longer than Arrow's blocks."""
    path = tmp_path / "rows.csv"
    path.write_text(f"x,y\n{'a' * 200_000},b\n{'c' * 9_000_000},d\n")
    _, frame = read(path, None, ["x", "y"])
    assert frame["x"].str.len_bytes().to_list() == [200_000, 9_000_000]
    assert frame["y"].to_list() == ["b", "d"]


def test_a_quote_left_open(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('x,y\na,b\n"c,d\ne,f\n')
    with pytest.raises(RowError, match="line 3: 1 fields where 2 are expected"):
        read(path, None, ["x"])


def test_windows_line_ends(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_bytes(b"x\ty\r\na\tb\r\n")
    for layout in (None, Layout("delimited", "\t", quote=None)):
        assert read(path, layout, ["x", "y"])[1].select("x", "y").rows() == [("a", "b")]
        assert [record.values for record in records(path, layout or Layout.of(path), "utf-8")] == [{"x": "a", "y": "b"}]


def test_the_consumers_errors_are_not_taken_for_the_files(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("x\na\n")

    def consume():
        for _ in RowReader(path).batches(["x"]):
            raise OSError("mine")

    with pytest.raises(OSError, match="mine"):
        consume()


def test_skipping_over_many_faults_of_both_kinds(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("x,y\n" + "a,1\n,2\nb\n" * 50)
    reader = RowReader(path, bad_rows="skip")
    kept = 0
    for batch in reader.batches(["x"]):
        kept += int(reader.check(batch, [("x", "is empty", batch["x"] == "")]).sum())
    assert kept == 50
    with pytest.warns(StorerecWarning, match="100 bad rows were skipped; the first: .*line 3, field 'x': is empty"):
        reader.faults.report()


def test_json_file_that_is_one_array(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('[{"x": 1}]\n')
    with pytest.raises(RowError, match="line 1: not a JSON object but a list; one object a line is needed"):
        RowReader(path).require({"x": ""})
    path.write_text('[\n{"x": 1}\n]\n')
    with pytest.raises(DataError, match="line 1: not valid JSON"):
        read(path, None, ["x"])


def test_a_bad_row_reaches_another_process_whole():
    error = RowError("the item id is empty", file="e.csv", line=3, field="item_id")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (RowError, str(error), vars(error))
