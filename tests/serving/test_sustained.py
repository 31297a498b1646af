"""The load of ``benchmarks.load`` for a few seconds, with its kill -9; and that its proofs can fail."""

import asyncio
from math import inf

import pytest
from benchmarks.load import load, memory
from benchmarks.load_record import Exchange, Item, Record, answers, changes, proofs


@pytest.mark.slow
def test_mixed_load_with_a_kill_half_way(folder):
    record, told = asyncio.run(load(folder, seconds=6, clients=8))
    assert not [proof for proof in told["proofs"] if proof["broken"]], told["proofs"]
    assert all(proof["tried"] for proof in told["proofs"])
    count = changes(record)
    # the proofs had something to go by, on both sides of the kill
    assert 0 < count["added before the kill"] < count["added"]
    assert 0 < count["removed before the kill"] <= count["removed"]
    assert count["added items that lists named"]
    assert count["removed items that lists had named"]
    assert told["answers"]["all"]["outage"]
    assert told["requests"].keys() == {"all", "recommend", "score", "add", "remove", "lookup", "search"}
    assert len(told["memory"]) == 2
    assert (folder.parent / "bundle.changes.sqlite").exists()


def told_of(*exchanges, **items):
    """How often each proof is broken by some exchanges, and by lookups of all items in the end."""
    record = Record({name: Item(name, name, *times) for name, times in items.items()}, list(exchanges), [(20.0, 30.0)])
    return {proof["what"].split()[0]: proof["broken"] for proof in proofs(record)}


def asked(kind, sent, status=200, got=None, **more):
    return Exchange(kind, sent, sent + 1 if got is None else got, status, **more)


def test_a_list_is_held_to_the_order_of_times():
    added, removed = {"a": (5.0, 7.0)}, {"a": (-inf, -inf, 5.0, 7.0)}

    def lists(sent, got, items):
        return told_of(asked("recommend", sent, got=got, listed=("a",)), **items)["no"]

    assert lists(3.0, 4.0, added) == 1  # before anybody had asked for it
    assert lists(3.0, 5.5, added) == 0
    assert lists(6.0, 8.0, removed) == 0  # the removal had not been answered
    assert lists(7.5, 8.0, removed) == 1
    assert lists(7.5, 8.0, {}) == 1  # no item of anybody's
    assert told_of(asked("score", 8.0, listed=("a",)), **removed)["no"] == 1


def test_what_was_accepted_must_be_known():
    added, refused = {"a": (5.0, 7.0)}, {"a": (inf, inf)}
    named = {"named": ("a",)}
    assert told_of(asked("recommend", 8.0, unknown=("a",), **named), **added)["what"] == 1
    assert told_of(asked("recommend", 6.0, unknown=("a",), **named), **added)["what"] == 0
    assert told_of(asked("score", 8.0, 422, **named), **added)["what"] == 1
    assert told_of(asked("score", 8.0, **named), **added)["what"] == 1  # it got no score
    assert told_of(asked("score", 8.0, listed=("a",), **named), **added)["what"] == 0
    assert told_of(asked("lookup", 8.0, 404, **named), **added)["what"] == 1
    assert told_of(asked("lookup", 8.0, told="another", **named), **added)["what"] == 1
    assert told_of(asked("lookup", 8.0, told="a", **named), **refused)["what"] == 1


def test_what_is_lost_or_comes_back_or_is_not_looked_up_is_told():
    def end(status, items, **more):
        return told_of(asked("check", 50.0, status, named=("a",), told="a", **more), **items)

    added, removed = {"a": (5.0, 7.0)}, {"a": (5.0, 7.0, 8.0, 9.0)}
    assert end(200, added) == dict.fromkeys(("every", "no", "what", "nothing", "all"), 0)
    assert end(404, added, error="unknown_item")["nothing"] == 1
    assert end(404, removed, error="unknown_item")["nothing"] == 0
    assert end(200, removed)["nothing"] == 1
    doubtful = ({"a": (5.0, inf)}, {"a": (5.0, 7.0, 8.0, inf)})  # asked for, and no answer came
    assert not any(
        end(status, items, error=e)["nothing"] for items in doubtful for status, e in ((200, ""), (404, "x"))
    )
    assert told_of(**added)["all"] == 1


def test_refusals_count_where_they_are_documented_and_no_other_failure_does():
    def wrong(*exchange, **more):
        return told_of(asked(*exchange, **more))["every"]

    assert not wrong("recommend", 8.0, 429, error="queue_full")
    assert not wrong("recommend", 8.0, 503, error="deadline_passed")
    assert not wrong("recommend", 25.0, 503, error="not_ready")  # during the outage
    assert wrong("recommend", 8.0, 503, error="not_ready")
    assert wrong("recommend", 8.0, 500, error="internal")
    assert wrong("add", 8.0, 422, error="invalid_request")
    assert wrong("recommend", 8.0, 0, error="ReadError")
    assert not wrong("recommend", 18.0, 0, got=20.5, error="ReadError")  # cut off by the kill
    record = Record({}, [asked("add", 25.0, 0, error="ConnectError"), asked("add", 8.0)], [(20.0, 30.0)])
    assert answers(record)["add"] == {"200": 1, "outage": 1}


def test_memory_is_flat_or_not_by_the_part_after_the_first_third():
    mib = 2**20

    def found(*sizes):
        return memory([(float(second), size * mib) for second, size in enumerate(sizes)], Record({}))

    assert found(100, 400, 500, 500, 501, 500, 501, 500)["flat"]
    grown = found(100, 400, 500, 520, 540, 560, 580, 600, 620)
    assert not grown["flat"]
    assert grown["mib_a_minute"] == pytest.approx(20 * 60)
    assert (grown["first_mib"], grown["last_mib"]) == (100, 620)
