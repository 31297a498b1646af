"""Reading events on a cluster of two raylets gives what the local engine gives, row for row, error for error."""

import gzip
import json
import random
import threading
import warnings

import numpy as np
import polars as pl
import pytest

from storerec.data import Catalogue, Histories, read_events, read_items
from storerec.data.readers import arrow
from storerec.errors import DataError, StorerecError, StorerecWarning
from storerec.scale import RayConfig, pieces
from storerec.scale.cluster import connected
from storerec.scale.reading import read_events as read_on_ray
from storerec.scale.shared_ids import SharedIds
from tests.data.stores import s3_store
from tests.scale.cluster import kill, wait_for, workers_of

ITEMS = [f"i{number}" for number in range(50)]
CATALOGUE = Catalogue.from_frame(pl.DataFrame({"item_id": ITEMS, "title": ITEMS}))


@pytest.fixture(scope="module", autouse=True)
def store():
    """Before the cluster: its workers inherit the credentials."""
    with s3_store() as made:
        yield made


@pytest.fixture(scope="module")
def config(store, cluster):
    settings = RayConfig(address=cluster.address)
    with connected(settings):
        yield settings


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    """So that small files have several; how many events there are in a batch must not matter."""
    monkeypatch.setattr(arrow, "_ROWS", 64)
    monkeypatch.setattr(pieces, "_ROWS", 100)


def events(count=900, seed=0, users=60):
    """Equal times, repeated items, unknown items, and users all over the table."""
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user_id": [f"u{number}" for number in rng.integers(0, users, count)],
            "item_id": [f"i{number}" for number in rng.integers(0, 53, count)],
            "timestamp": rng.integers(0, 40, count),
        }
    )


def text_of(frame, kind):
    return (frame.write_csv() if kind == "csv" else frame.write_ndjson()).encode()


def folder_of(folder, frame, kind="csv", files=4):
    folder.mkdir()
    size = -(-frame.height // files)
    for number in range(files):
        part, name = frame[number * size : (number + 1) * size], f"part-{number}.{kind}"
        if kind == "parquet":
            part.write_parquet(folder / name, row_group_size=30)
        else:
            data = text_of(part, kind.removesuffix(".gz"))
            (folder / name).write_bytes(gzip.compress(data) if kind.endswith(".gz") else data)
    return folder


def outcome(read):
    """Histories or the error, and the warnings."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = read()
        except StorerecError as error:
            found = error
    return found, [str(one.message) for one in said if issubclass(one.category, StorerecWarning)]


def same(config, place, **how):
    """Whether both engines give the same; gives it."""
    ours, ours_said = outcome(lambda: read_on_ray(config, place, CATALOGUE, **how))
    local, local_said = outcome(lambda: read_events(place, CATALOGUE, **how))
    assert type(ours) is type(local), ours
    assert ours_said == local_said
    if isinstance(local, Histories):
        assert ours.user_ids.equals(local.user_ids)
        assert ours.user_ids.name == local.user_ids.name
        for one, other in ((ours.offsets, local.offsets), (ours.items, local.items)):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
    else:
        assert str(ours) == str(local)
        assert vars(ours) == vars(local)
    return local


@pytest.mark.parametrize("kind", ["parquet", "csv.gz", "jsonl"])
def test_every_kind_of_folder(config, tmp_path, kind):
    folder = folder_of(tmp_path / "events", events(), kind)
    assert len(same(config, folder)) == 60
    same(config, folder, timestamp=None)


def test_row_groups_of_one_file(config, tmp_path):
    path = tmp_path / "events.parquet"
    events(900).with_columns(pl.from_epoch("timestamp", "s")).write_parquet(path, row_group_size=50)
    assert len(pieces.pieces_of([pieces_file(path)], arrow.Layout.of(path))) > 3
    same(config, path)
    same(config, path, unknown="error")
    bad = events(900).with_columns(item_id=pl.when(pl.int_range(900) % 300 == 299).then(None).otherwise("item_id"))
    bad.write_parquet(path, row_group_size=50)
    assert same(config, path).line == 300
    same(config, path, bad_rows="skip")


def pieces_file(path):
    from storerec.data.places import one_file

    return one_file(path)


def test_one_kind_of_time_for_all_pieces(config, tmp_path):
    """The first usable time, in the third file, says what all others are; numbers are then no times."""
    days = pl.Series(["never"] * 50 + [f"2020-01-{day:02}" for day in range(1, 26)] + ["7"] * 25)
    folder = folder_of(tmp_path / "e", events(100).with_columns(timestamp=days))
    assert same(config, folder, bad_rows="skip").items.size <= 25
    same(config, folder)


def test_times_that_are_no_integers_anywhere_are_such_everywhere(config, tmp_path):
    folder = tmp_path / "e"
    folder.mkdir()
    big = 2**53  # as floats, the next integer is the same
    rows = [("u", "i0", big + 1), ("u", "i1", big), ("v", "i2", 2), ("v", "i3", 1)]
    for number, more in enumerate(([], [("w", "i4", 0.5)])):
        lines = [dict(zip(("user_id", "item_id", "timestamp"), row, strict=True)) for row in more or rows]
        (folder / f"{number}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert same(config, folder / "0.jsonl").items.tolist() == [1, 0, 3, 2]
    assert same(config, folder).items.tolist() == [0, 1, 3, 2, 4]


def test_bad_rows(config, tmp_path):
    folder = folder_of(tmp_path / "e", events(80))
    broken = folder / "part-2.csv"
    lines = broken.read_text().splitlines()
    lines[5], lines[9] = "u1,i1,never", "u1,i1"
    broken.write_text("\n".join(lines))
    (folder / "part-3.csv").write_text("user_id,item_id,timestamp\n,i1,1\nu1,i2,5\n")
    found = same(config, folder)
    assert (found.file, found.line, found.field) == (str(broken), 6, "timestamp")
    assert same(config, folder, bad_rows="skip").items.size > 40
    with pytest.raises(DataError, match="bad_rows must be 'error' or 'skip'"):
        read_on_ray(config, folder, CATALOGUE, bad_rows="ignore")


def test_files_that_are_no_good(config, tmp_path):
    folder = folder_of(tmp_path / "e", events(80), "csv.gz")
    same(config, folder, user_id="viewer")
    (folder / "part-2.csv.gz").write_bytes((folder / "part-2.csv.gz").read_bytes()[:-9])
    assert "part-2.csv.gz: cannot be read" in str(same(config, folder))
    (folder / "part-1.csv.gz").write_bytes(gzip.compress(b"user,item_id,timestamp\nu,i0,1\n"))
    assert "part-1.csv.gz: no column 'user_id'" in str(same(config, folder))
    same(config, tmp_path / "nowhere")
    with pytest.raises(DataError, match="memory://shop/e: is in the memory of one process"):
        read_on_ray(config, "memory://shop/e", CATALOGUE)


def test_events_of_unknown_items_only(config, tmp_path):
    frame = events(40).with_columns(item_id=pl.format("x{}", pl.int_range(40)))
    assert "none of the 40 events" in str(same(config, folder_of(tmp_path / "e", frame)))
    same(config, folder_of(tmp_path / "f", frame[:0]))


def test_one_row_per_user(config, tmp_path):
    lists = [[f"i{n % 53}" for n in range(user, user + user % 7)] for user in range(70)]
    frame = pl.DataFrame({"user_id": [f"u{user}" for user in range(70)], "items": lists})
    folder = folder_of(tmp_path / "s", frame, "parquet")
    assert same(config, folder, items="items").lengths.max() == 6
    (folder / "part-9.parquet").write_bytes((folder / "part-1.parquet").read_bytes())
    found = same(config, folder, items="items")
    assert (found.file, found.line) == (str(folder / "part-9.parquet"), 1)


def test_an_object_store(config, store, tmp_path):
    catalogue = read_items(store.upload(folder_of(tmp_path / "items", CATALOGUE.frame, "parquet"), "items"))
    assert catalogue.frame.equals(CATALOGUE.frame)
    same(config, store.upload(folder_of(tmp_path / "e", events(), "parquet"), "events"))
    bad = events(80).with_columns(item_id=pl.Series([""] + ["i1"] * 79))
    found = same(config, store.upload(folder_of(tmp_path / "bad", bad[::-1]), "bad"))
    assert (found.file, found.line) == ("s3://shop/bad/part-3.csv", 21)


def test_killed_workers_change_nothing(cluster, config, tmp_path):
    folder = folder_of(tmp_path / "e", events(240_000, users=5000), "csv", files=12)
    with Killer(cluster, "read_pieces", "reduce", "ordered") as killer:
        ours, _ = outcome(lambda: read_on_ray(config, folder, CATALOGUE))
    assert "read_pieces" in killer.killed
    local, _ = outcome(lambda: read_events(folder, CATALOGUE))
    assert ours.user_ids.equals(local.user_ids)
    np.testing.assert_array_equal(ours.offsets, local.offsets)
    np.testing.assert_array_equal(ours.items, local.items)


class Killer:
    """Kills one worker of the cluster that does each of some tasks, one after the other, at random moments."""

    def __init__(self, cluster, *tasks):
        self.nodes, self.tasks, self.killed = cluster.list_all_nodes(), tasks, []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        chance = random.Random(0)
        for task in self.tasks:
            victims = wait_for(lambda task=task: self._over.is_set() or self._doing(task), every=0.002)
            self._over.wait(chance.random() * 0.05)
            if not self._over.is_set():
                kill(chance.choice(victims))
                self.killed.append(task)

    def _doing(self, task):
        return [worker for node in self.nodes for worker in workers_of(task, node)]

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(60)


def test_shared_ids():
    ids = pl.Series(["b", "", "c", "é", "nowhere", "a"])
    catalogue = Catalogue.from_frame(pl.DataFrame({"item_id": ["a", "b", "é", "c"], "title": "x"}))
    shared = SharedIds.of(catalogue)
    assert shared.rows(ids).tolist() == [1, -1, 3, 2, -1, 0]
    assert shared.rows(ids[:0]).tolist() == []
    other = SharedIds(
        shared.ids, shared.hashes[::-1], shared.order, shared.probes + 1
    )  # of a machine hashing otherwise
    assert other.rows(ids).tolist() == [1, -1, 3, 2, -1, 0]
