"""The ledger as an object in this process: what it keeps, and what it forgets."""

from dataclasses import replace

import numpy as np
import pytest

from storerec.bundle import Manifest, write_bundle
from storerec.bundle.journal import Change, Journal
from storerec.config import RunOptions
from storerec.errors import BundleError
from storerec.scale import ledger as module
from storerec.scale.ledger import Ledger
from storerec.scale.ledger_log import LedgerLog
from storerec.scale.replica import Order
from storerec.scale.replica_peers import ReplicaPeers
from storerec.serving import ServingConfig

ADD = Change("add", "a", {"title": "naïve"}, (1, 2), (0.1, 0.25), "t")
CHANGES = [ADD, Change("update", "a", {"title": "two"}, training="t"), Change("remove", "b")]


@pytest.fixture
def bundle(tmp_path):
    write_bundle(
        tmp_path / "bundle", tensors={key: {"a": np.ones(2)} for key in ("tokenizer", "clusterer")}, documents={}
    )
    return tmp_path / "bundle"


def test_what_it_wrote_is_there_for_the_next_one_and_is_not_written_again(bundle):
    changes = [replace(ADD, training=Manifest.read(bundle).training), *CHANGES[1:]]
    first = Ledger(bundle)
    assert first.state()[0] == 0
    assert first.write(changes, 0) == 3
    after_a_kill = Ledger(bundle)
    assert after_a_kill.state()[0] == 3
    assert after_a_kill.write_again(changes, 0) == 3  # the answer to the first attempt was lost
    assert after_a_kill.write(changes, 0) is None
    assert after_a_kill.write_again(changes[:1], 3) == 4  # the first attempt was lost
    assert after_a_kill.write_again(changes[1:], 1) == 3  # others have written since
    assert after_a_kill.write_again(changes[2:], 0) is None
    assert after_a_kill.write_again([], 0) is None
    assert [one.number for one in after_a_kill.since(1, 2)] == [2, 3]
    assert len(Journal.beside(bundle).since()) == 4


def test_what_was_added_under_a_replaced_training_is_written_once(bundle):
    ledger = Ledger(bundle)
    assert ledger.write([ADD], 0) == 3
    assert [one.kind for one in ledger.since(0, 9)] == ["add", "update", "restore"]
    assert ledger.write_again([ADD], 0) == 1  # what was written with it is read then, and does what is done
    assert ledger.state()[0] == 3


def test_a_reload_is_asked_for_by_who_asks_and_not_by_a_new_ledger(bundle):
    log = LedgerLog("one")
    peers = ReplicaPeers(log)
    asked = []

    def look(ledger):
        log.reloads = ledger.state()[1]
        asked.append(peers.reload_asked())

    asked.append(peers.reload_asked())  # no ledger was asked yet
    first = Ledger(bundle)
    look(first)
    assert asked == [False, False]
    first.ask_reload()
    first.ask_reload()
    look(first)
    look(first)
    assert asked[2:] == [True, False]
    second = Ledger(bundle)
    look(second)
    second.ask_reload()
    look(second)
    assert asked[4:] == [False, True]


def test_a_reload_asked_for_during_a_load_is_not_missed(bundle, monkeypatch):
    log, ledger = LedgerLog("one"), Ledger(bundle)
    peers = ReplicaPeers(log)

    def version():
        number, log.reloads = ledger.state()
        return number

    monkeypatch.setattr(log, "version", version)
    ledger.ask_reload()
    peers.loads()
    ledger.ask_reload()
    version()  # a request, before anyone has looked
    assert peers.reload_asked()
    assert not peers.reload_asked()


def test_one_has_the_turn_until_it_ends_or_is_not_heard_of(bundle, monkeypatch):
    ledger, now = Ledger(bundle), [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    assert ledger.take_turn("reload", "one")
    assert not ledger.take_turn("reload", "two")
    assert ledger.take_turn("encode", "two")
    now[0] = 0.9 * module.LEASE_SECONDS
    assert ledger.take_turn("reload", "one")  # renewed
    now[0] = 1.8 * module.LEASE_SECONDS
    assert not ledger.take_turn("reload", "two")
    ledger.end_turn("reload", "two")  # was never its own
    assert not ledger.take_turn("reload", "two")
    ledger.end_turn("reload", "one")
    assert ledger.take_turn("reload", "two")
    now[0] = 2.9 * module.LEASE_SECONDS
    assert ledger.take_turn("reload", "one")  # the other was killed


def test_an_error_of_ours_is_a_value(bundle):
    Journal.beside(bundle).path.write_bytes(b"not a database, but long enough to be looked at" * 40)
    ledger = Ledger(bundle)
    for told in (ledger.state(), ledger.since(0, 5), ledger.write(CHANGES, 0)):
        assert isinstance(told, BundleError)
        assert "bundle.changes.sqlite" in str(told)
    ledger.fail(told)
    assert ledger.attend() == [told]
    assert ledger.attend() == []


def test_a_replica_looks_for_a_language_model_where_the_command_was_given(tmp_path):
    write_bundle(tmp_path / "bundle", tensors={}, documents={"config": {"backbone": {"name": "model"}}})

    def place(backbone=None):
        order = Order(tmp_path / "bundle", ServingConfig(), RunOptions(), backbone, None, tmp_path / "here")
        return order.backbone_place()

    assert place() is None, "a name of the hub, which needs no place"
    for name in ("model", "another"):
        (tmp_path / "here" / name).mkdir(parents=True)
    assert place() == str(tmp_path / "here" / "model")
    assert place("another") == str(tmp_path / "here" / "another")
    assert place(str(tmp_path / "here")) == str(tmp_path / "here")
    assert place("hub/name") == "hub/name"
