import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from storerec.bundle import Manifest, write_bundle
from storerec.bundle.journal import Change, Journal
from storerec.errors import BundleError

CHANGES = [
    Change("add", "a", {"title": "naïve"}, (1, 2), (0.5, 0.25), "t"),
    Change("update", "a", {"title": "two"}, training="t"),
    Change("remove", "b"),
    Change("restore", "b"),
]


def write(journal, changes):
    with journal.alone():
        return journal.append(changes)


def plain(changes):
    return [(one.kind, one.item_id, one.text, one.codes, one.distances, one.training) for one in changes]


def test_what_was_written_is_read_by_another(tmp_path):
    ours, theirs = (Journal.beside(tmp_path / "bundle") for _ in range(2))
    assert (ours.since(), ours.version()) == ([], 0)
    assert list(tmp_path.iterdir()) == []  # reading makes no file
    assert write(ours, CHANGES[:2]) == 2
    before = theirs.version()
    assert plain(theirs.since()) == plain(CHANGES[:2])
    write(ours, CHANGES[2:])
    assert theirs.version() != before
    assert [(one.kind, one.number) for one in theirs.since(2)] == [("remove", 3), ("restore", 4)]
    assert ours.path == tmp_path / "bundle.changes.sqlite"


def test_a_block_that_fails_writes_nothing(tmp_path):
    journal = Journal.beside(tmp_path / "bundle")

    def fail():
        with journal.alone():
            journal.append(CHANGES)
            write(journal, CHANGES)  # part of the outer block
            assert len(journal.since()) == 8
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert journal.since() == []
    write(journal, CHANGES)
    assert len(journal.since()) == 4


def test_a_writer_waits_for_another(tmp_path):
    ours, theirs = (Journal.beside(tmp_path / "bundle") for _ in range(2))
    write(ours, CHANGES[:1])
    theirs.since()
    theirs._connection.execute("PRAGMA busy_timeout = 50")
    with ours.alone():
        ours.append(CHANGES[1:])
        with pytest.raises(BundleError, match="locked"), theirs.alone():
            pass
    write(theirs, CHANGES[2:])
    assert len(ours.since()) == 6


def test_who_does_not_know_all_that_was_written_writes_nothing(tmp_path):
    ours, theirs = (Journal.beside(tmp_path / "bundle") for _ in range(2))
    assert (ours.last(), ours.write([], after=0), ours.last()) == (0, 0, 0)
    assert ours.write(CHANGES[:2], after=0) == 2
    assert theirs.write(CHANGES[2:], after=1) is None
    assert theirs.write([], after=1) is None
    assert theirs.write(CHANGES[2:], after=2) == ours.last() == 4
    assert [one.number for one in ours.since(1, 2)] == [2, 3]
    assert plain(ours.since()) == plain(CHANGES)


def test_a_text_changed_under_a_training_that_was_replaced_counts_for_the_new_one(tmp_path):
    bundle = tmp_path / "bundle"
    write_bundle(bundle, tensors={"tokenizer": {"a": np.ones(2)}, "clusterer": {"b": np.ones(2)}}, documents={})
    now = Manifest.read(bundle).training
    journal = Journal.beside(bundle)
    assert journal.write(CHANGES, after=0) == 6
    assert [one.training for one in journal.since()] == ["t", now, "", "", now, now]
    assert journal.since()[1].text == CHANGES[1].text
    told = [(one.kind, one.item_id, one.text) for one in journal.since(4)]  # who knows the item already learns of it
    assert told == [("update", "a", {"title": "two"}), ("restore", "a", None)]
    write_bundle(bundle, tensors={"tokenizer": {"a": np.ones(2)}, "clusterer": {"b": np.zeros(2)}}, documents={})
    journal.write(CHANGES[1:2], after=6)
    assert journal.since(6)[0].training == Manifest.read(bundle).training != now


def test_what_was_answered_survives_a_kill(tmp_path):
    code = """
import sys, pathlib
from storerec.bundle.journal import Change, Journal
journal = Journal.beside(pathlib.Path(sys.argv[1]))
number = 0
while True:
    with journal.alone():
        journal.append([Change("remove", str(number)), Change("restore", str(number))])
    print(number, flush=True)
    number += 1
"""
    command = [sys.executable, "-c", code, str(tmp_path / "bundle")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        for _ in range(20):
            told = running.stdout.readline()
        os.kill(running.pid, signal.SIGKILL)
        told = ([told, *running.stdout.read().splitlines()])[-1]
    found = Journal.beside(tmp_path / "bundle").since()
    assert len(found) % 2 == 0
    assert len(found) // 2 >= int(told) + 1 >= 20


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be looked at" * 40, b"SQLite format 3\0" + b"x" * 90]
)
def test_a_file_of_another_kind_is_named(tmp_path, content):
    journal = Journal.beside(tmp_path / "bundle")
    journal.path.write_bytes(content)
    with pytest.raises(BundleError, match=r"bundle\.changes\.sqlite"):
        journal.since()
