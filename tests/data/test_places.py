"""Tables in folders and object stores, read and written on one machine."""

import gzip
import warnings
from urllib.parse import quote

import fsspec
import numpy as np
import polars as pl
import pytest

from storerec.data import Catalogue, read_events, read_items
from storerec.data.places import is_url, name_of, one_file, table_files, written
from storerec.data.readers.records import Layout
from storerec.errors import DataError, MissingExtraError, RowError, StorerecWarning
from tests.data.stores import s3_store

ITEMS = ["i0", "i1", "i2"]
CATALOGUE = Catalogue.from_frame(pl.DataFrame({"item_id": ITEMS, "title": ITEMS}))
EVENTS = pl.DataFrame(
    {"user_id": list("uvuwvu"), "item_id": ["i2", "i0", "i1", "i1", "i2", "i0"], "timestamp": [30, 5, 10, 7, 5, 30]}
)


@pytest.fixture(scope="module")
def store():
    with s3_store() as made:
        yield made


def same(one, other):
    assert one.user_ids.equals(other.user_ids)
    assert np.array_equal(one.offsets, other.offsets)
    assert np.array_equal(one.items, other.items)
    return True


def write(path, frame):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        frame.write_parquet(path, row_group_size=2)
    elif ".jsonl" in path.suffixes:
        put(path, frame.write_ndjson().encode())
    else:
        put(path, frame.write_csv().encode())
    return path


def put(path, data):
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def folder_of(folder, frame, ending, parts=3):
    """A folder of three files, whose rows follow each other."""
    size = -(-frame.height // parts)
    for part in range(parts):
        write(folder / f"part-{part}.{ending}", frame[part * size : (part + 1) * size])
    return folder


def write_half(place):
    def write():
        with written(place) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        write()


@pytest.mark.parametrize("ending", ["parquet", "csv", "csv.gz", "jsonl", "jsonl.gz"])
def test_a_folder_is_one_table(tmp_path, ending):
    folder = folder_of(tmp_path / "events", EVENTS, ending)
    (folder / "_SUCCESS").touch()
    (folder / ".part-0.crc").write_bytes(b"x")
    write(folder / "_temporary" / "part-9.csv", EVENTS)
    whole = read_events(write(tmp_path / f"one.{ending}", EVENTS), CATALOGUE)
    assert same(read_events(folder, CATALOGUE), whole)
    assert same(read_events(str(folder) + "/", CATALOGUE), whole)
    assert same(read_events(folder.as_uri(), CATALOGUE), whole)
    items = folder_of(tmp_path / "items", CATALOGUE.frame, ending)
    assert read_items(items).frame.equals(CATALOGUE.frame)


def test_folders_in_a_folder_go_by_their_names(tmp_path):
    write(tmp_path / "e" / "day=2" / "b.parquet", EVENTS[4:])
    write(tmp_path / "e" / "day=10" / "a.parquet", EVENTS[:1])
    write(tmp_path / "e" / "day=10" / "c.parquet", EVENTS[1:4])
    assert [file.name[-16:] for file in table_files(tmp_path / "e")] == [
        "day=10/a.parquet",
        "day=10/c.parquet",
        "/day=2/b.parquet",
    ]
    whole = read_events(write(tmp_path / "one.parquet", EVENTS), CATALOGUE, timestamp=None)
    assert same(read_events(tmp_path / "e", CATALOGUE, timestamp=None), whole)


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_a_bad_row_of_a_folder_is_named_with_its_file(tmp_path, ending):
    frame = EVENTS.with_columns(item_id=pl.Series(["i2", "i0", "i1", None, "i2", None]))
    folder = folder_of(tmp_path / "e", frame, ending)
    line = 3 if ending == "csv" else 2
    with pytest.raises(RowError, match=f"part-1.{ending}, line {line}, field 'item_id'") as caught:
        read_events(folder, CATALOGUE)
    assert caught.value.file == str(folder / f"part-1.{ending}")
    report = f"^{folder}: 2 bad rows were skipped; the first: .*part-1.{ending}, line {line}, field 'item_id'"
    with pytest.warns(StorerecWarning, match=report):
        assert read_events(folder, CATALOGUE, bad_rows="skip").items.size == 4


def test_an_id_repeated_in_another_file(tmp_path):
    folder = folder_of(tmp_path / "i", pl.DataFrame({"item_id": ["a", "b", "a"], "title": ["x", "y", "z"]}), "csv")
    with pytest.raises(RowError, match=r"part-2.csv, line 2, field 'item_id': item id 'a' occurs a second time"):
        read_items(folder)
    with pytest.warns(StorerecWarning, match=r"1 rows repeat an item id.*'a' in .*part-2.csv, line 2"):
        assert read_items(folder, duplicates="first").titles.to_list() == ["x", "y"]
    rows = pl.DataFrame({"user_id": ["u", "v", "u"], "items": ["i0", "i1 i2", "i1"]})
    with pytest.raises(RowError, match=r"part-2.csv, line 2, field 'user_id': user 'u' has a second row"):
        read_events(folder_of(tmp_path / "s", rows, "csv"), CATALOGUE, items="items")


def test_a_later_file_without_the_columns(tmp_path):
    folder = folder_of(tmp_path / "e", EVENTS, "csv")
    write(folder / "part-3.csv", EVENTS.rename({"item_id": "item"}))
    with pytest.raises(DataError, match=r"part-3.csv: no column 'item_id'; found .*--item-id"):
        read_events(folder, CATALOGUE)


def test_the_first_bad_row_comes_first(tmp_path):
    """Where a row cannot be taken apart, the rows before it are looked at too."""
    rows = ["user_id,item_id,timestamp", "u,i0,1", "u,i1,soon", "u,i1", "v,i2,3"]
    (tmp_path / "e.csv").write_text("\n".join(rows))
    with pytest.raises(RowError, match="line 3, field 'timestamp'"):
        read_events(tmp_path / "e.csv", CATALOGUE)
    with pytest.warns(StorerecWarning, match="2 bad rows were skipped; the first: .*line 3"):
        assert read_events(tmp_path / "e.csv", CATALOGUE, bad_rows="skip").items.size == 2


def test_one_kind_of_time_for_all_files(tmp_path):
    """1/2 as a number or a date: the first usable time of the first file decides for all."""
    days = pl.Series(["never", "2020-01-02", "2020-01-01", "3", "2020-01-04", "2020-01-05"])
    folder = folder_of(tmp_path / "e", EVENTS.with_columns(timestamp=days), "csv", parts=6)
    with pytest.warns(StorerecWarning, match=r"2 bad rows were skipped; the first: .*part-0.csv, line 2"):
        assert read_events(folder, CATALOGUE, bad_rows="skip").items.size == 4


def test_folders_that_are_no_table(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: is a folder without files"):
        read_events(tmp_path / "empty", CATALOGUE)
    mixed = folder_of(tmp_path / "mixed", EVENTS, "csv")
    write(mixed / "more.jsonl", EVENTS)
    with pytest.raises(DataError, match=r"mixed: is a folder with files of several kinds, as more.jsonl and part-0"):
        read_events(mixed, CATALOGUE)
    (mixed / "readme.txt").write_text("x")
    with pytest.raises(DataError, match=r"mixed: is a folder, and readme.txt in it is no table"):
        read_items(mixed)
    delta = folder_of(tmp_path / "delta", EVENTS, "parquet")
    (delta / "_delta_log").mkdir()
    (delta / "_delta_log" / "0.json").write_text("{}")
    with pytest.raises(DataError, match=r"delta: is a Delta table.*export it as Parquet"):
        read_events(delta, CATALOGUE)
    with pytest.raises(DataError, match="empty: is a folder, not a file"):
        one_file(tmp_path / "empty")


def test_a_layout_given_needs_no_extension(tmp_path):
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "000000_0").write_text("u|i0|1\n")
    (folder / "000001_0").write_text("u|i1|0\n")
    layout = Layout("delimited", "|", None, ("user_id", "item_id", "timestamp"))
    assert read_events(folder, CATALOGUE, layout=layout).items.tolist() == [1, 0]


def test_object_store(tmp_path, store):
    for name in ("events", "items"):
        store.upload(folder_of(tmp_path / name, EVENTS if name == "events" else CATALOGUE.frame, "parquet"), name)
    store.upload(folder_of(tmp_path / "text", EVENTS, "csv.gz"), "text")
    catalogue = read_items(store.url("items"))
    assert catalogue.frame.equals(CATALOGUE.frame)
    local = read_events(tmp_path / "events", catalogue)
    for url in (store.url("events"), store.url("events/"), store.url("text")):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert same(read_events(url, catalogue), local)
    one = read_events(store.url("text/part-1.csv.gz"), catalogue)
    assert same(one, read_events(tmp_path / "text" / "part-1.csv.gz", catalogue))


def test_faults_in_an_object_store(tmp_path, store):
    frame = EVENTS.with_columns(item_id=pl.Series(["i2", "i0", "i1", None, "i2", "i0"]))
    store.upload(folder_of(tmp_path / "bad", frame, "csv"), "bad")
    with pytest.raises(RowError, match=r"^s3://shop/bad/part-1.csv, line 3, field 'item_id'"):
        read_events(store.url("bad"), CATALOGUE)
    with pytest.raises(DataError, match=r"^s3://shop/nothing: no such file$"):
        read_events(store.url("nothing"), CATALOGUE)
    with pytest.raises(DataError, match=r"^s3://nobody/events: no such file$"):
        read_events(store.url("events", bucket="nobody"), CATALOGUE)


def test_writing_to_an_object_store(tmp_path, store):
    with written(store.url("out/codes.parquet")) as temporary:
        EVENTS.write_parquet(temporary)
    assert same(
        read_events(store.url("out/codes.parquet"), CATALOGUE),
        read_events(write(tmp_path / "e.parquet", EVENTS), CATALOGUE),
    )
    write_half(store.url("out/none.parquet"))
    with pytest.raises(DataError, match=r"none.parquet: no such file"):
        one_file(store.url("out/none.parquet"))
    with (
        pytest.raises(DataError, match=r"^s3://nobody/x: cannot be written to"),
        written(store.url("x", bucket="nobody")) as temporary,
    ):
        temporary.write_bytes(b"x")


def test_writing_on_this_machine(tmp_path):
    for place in (tmp_path / "a" / "x.bin", (tmp_path / "b" / "x.bin").as_uri()):
        with written(place) as temporary:
            temporary.write_bytes(b"whole")
        write_half(place)
    assert [(tmp_path / name / "x.bin").read_bytes() for name in "ab"] == [b"whole", b"whole"]
    assert [[path.name for path in (tmp_path / name).iterdir()] for name in "ab"] == [["x.bin"], ["x.bin"]]


def test_other_file_systems_through_fsspec(tmp_path):
    memory = fsspec.filesystem("memory")
    folder_of(tmp_path / "events", EVENTS, "jsonl")
    memory.put(str(tmp_path / "events"), "/shop/events", recursive=True)
    assert same(read_events("memory://shop/events", CATALOGUE), read_events(tmp_path / "events", CATALOGUE))
    with written("memory://shop/out.bin") as temporary:
        temporary.write_bytes(b"whole")
    assert memory.cat("/shop/out.bin") == b"whole"
    with pytest.raises(DataError, match=r"^memory://shop/none: no such file$"):
        read_events("memory://shop/none", CATALOGUE)


class _Closed(fsspec.AbstractFileSystem):
    """A file system that lets nobody in."""

    protocol = "closed"

    def info(self, path, **_):
        raise PermissionError(f"no entry to {path}")


def test_places_that_cannot_be_reached():
    with pytest.raises(DataError, match=r"^what://x/y: no library reads what://; use a path, s3://"):
        read_items("what://x/y")
    with pytest.raises(MissingExtraError, match=r"^oci://b/x.csv: oci:// needs a library.*[Ii]nstall"):
        read_items("oci://b/x.csv")
    fsspec.register_implementation("closed", _Closed, clobber=True)
    with pytest.raises(DataError, match=r"^closed://a/x.csv: may not be reached; check the permissions or cred"):
        read_items("closed://a/x.csv")


def test_names_without_secrets():
    url = "s3://key:secret@shop/a/b.csv?endpoint_override=http%3A%2F%2Flocalhost&x=token"
    assert name_of(url) == "s3://shop/a/b.csv"
    assert (
        name_of("abfs://container@account.dfs.core.windows.net/x") == "abfs://container@account.dfs.core.windows.net/x"
    )
    assert quote("/", safe="") not in name_of(url)
    assert is_url(url)
    assert not is_url("C:\\a\\b.csv")
    assert not is_url("C://a/b.csv")
