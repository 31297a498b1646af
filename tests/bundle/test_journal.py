import os
import signal
import subprocess
import sys

import pytest

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
