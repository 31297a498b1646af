"""What clients asked a service and what it answered, with the times of both, and what must hold of that.

All times are of one monotonic clock, in one process. A request's time is taken before it is handed to the client
library and an answer's when all of it was read, so that "answered before it was asked" is never said of two that
overlapped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np

SHOWN = 5
"""Most breaches of a proof that are told."""

NOT_BEGUN = frozenset({"queue_full", "not_ready", "ConnectError"})
"""Errors that say a request never came to the model: what it asked for must not have been done."""


@dataclass
class Item:
    """When an item was asked to be added and removed, and when that was answered with success; inf where it was not.

    An item asked for without such an answer may have come, or gone, all the same.
    """

    item_id: str
    title: str = ""
    add_sent: float = -inf
    add_got: float = -inf
    remove_sent: float = inf
    remove_got: float = inf


@dataclass(frozen=True)
class Exchange:
    """One request and its answer.

    Attributes
    ----------
    kind: of request; ``check`` is a lookup after the end of the load.
    sent, got: when it was asked, and when the answer, or the error of the connection, was there.
    status: of HTTP; 0 where no answer came.
    error: type of the error in the answer, or name of the connection's error.
    named: ids in the request that must be known.
    listed: ids in the answer.
    unknown: ids of the history that the answer calls unknown.
    told: the title in the answer to a lookup.
    """

    kind: str
    sent: float
    got: float
    status: int
    error: str = ""
    named: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    told: str | None = None


@dataclass
class Record:
    """All of a load: items by id, exchanges, and spans of time in which the service was down (kill to ready)."""

    items: dict[str, Item]
    exchanges: list[Exchange] = field(default_factory=list)
    outages: list[tuple[float, float]] = field(default_factory=list)

    def in_outage(self, one: Exchange) -> bool:
        """Whether a request was under way while the service was down."""
        return any(one.sent <= end and one.got >= begin for begin, end in self.outages)

    def outcome(self, one: Exchange) -> str:
        """How an exchange is counted."""
        if one.status == 0:
            return "outage" if self.in_outage(one) else f"no answer: {one.error}"
        return f"{one.status} {one.error}".strip()


def proofs(record: Record) -> list[dict[str, Any]]:
    """Each promise with how often it was tried, how often broken, and the first breaches."""
    told = [
        _proof("every answer is a success or a documented refusal", record.exchanges, _bad_status, record),
        _proof("no list names an item before it was added or after it was removed", _lists(record), _bad_list, record),
        _proof("what was added is known ever after", _naming(record, "check", among=False), _forgotten, record),
        _proof("nothing accepted was lost, nothing removed came back", _naming(record, "check"), _forgotten, record),
    ]
    checked = {one.named[0] for one in record.exchanges if one.kind == "check" and one.status in (200, 404)}
    left = sorted(record.items.keys() - checked)
    told.append(
        {
            "what": "all items were looked up at the end",
            "tried": len(record.items),
            "broken": len(left),
            "first": left[:SHOWN],
        }
    )
    return told


def _proof(what: str, exchanges: list[Exchange], breach: Any, record: Record) -> dict[str, Any]:
    found = [text for one in exchanges for text in breach(record, one)]
    return {"what": what, "tried": len(exchanges), "broken": len(found), "first": found[:SHOWN]}


def _lists(record: Record) -> list[Exchange]:
    return [one for one in record.exchanges if one.status == 200 and one.listed]


def _naming(record: Record, kind: str, *, among: bool = True) -> list[Exchange]:
    return [one for one in record.exchanges if one.named and one.status and (one.kind == kind) == among]


def _bad_status(record: Record, one: Exchange) -> Iterator[str]:
    fine = {"200", "429 queue_full", "503 deadline_passed", "outage"}
    if one.kind in ("lookup", "check"):
        fine.add("404 unknown_item")  # whether rightly is another proof's matter
    if one.kind == "score":
        fine.add("422 invalid_request")
    if record.in_outage(one):
        fine.add("503 not_ready")
    if (outcome := record.outcome(one)) not in fine:
        yield f"{one.kind} at {one.sent:.3f}: {outcome}"


def _bad_list(record: Record, one: Exchange) -> Iterator[str]:
    for item_id in one.listed:
        item = record.items.get(item_id)
        if item is None or item.add_sent >= one.got:
            yield f"{one.kind} at {one.sent:.3f} names '{item_id}', which nobody had asked to be added"
        elif item.remove_got < one.sent:
            yield f"{one.kind} at {one.sent:.3f} names '{item_id}', removed at {item.remove_got:.3f}"


def _forgotten(record: Record, one: Exchange) -> Iterator[str]:
    """Items that an answer should know and does not, or should not and does."""
    items = [record.items[item_id] for item_id in one.named]
    added = [item for item in items if item.add_got < one.sent]
    may_be_gone = any(item.remove_sent < one.got for item in items)
    place = f"{one.kind} at {one.sent:.3f}"
    if one.kind == "recommend":
        for item in added:
            if item.item_id in one.unknown:
                yield f"{place}: '{item.item_id}' is unknown, added at {item.add_got:.3f}"
    elif one.status in (404, 422):
        if len(added) == len(items) and not may_be_gone:
            yield f"{place}: {one.status} for {', '.join(one.named)}, added and not removed"
    elif one.status == 200 and one.kind == "score":
        for item in added:
            if item.item_id not in one.listed:
                yield f"{place}: '{item.item_id}' got no score"
    elif one.status == 200 and one.kind in ("lookup", "check"):
        if items[0].add_sent >= one.got:
            yield f"{place}: '{one.named[0]}' is there, and its addition was refused"
        elif items[0].remove_got < one.sent:
            yield f"{place}: '{one.named[0]}' is there, removed at {items[0].remove_got:.3f}"
        elif one.told != items[0].title:
            yield f"{place}: '{one.named[0]}' has the title {one.told!r}, not {items[0].title!r}"


def answers(record: Record) -> dict[str, dict[str, int]]:
    """Requests by outcome, for each kind and in all."""
    counts: dict[str, Counter[str]] = {"all": Counter()}
    for one in record.exchanges:
        outcome = record.outcome(one)
        counts.setdefault(one.kind, Counter())[outcome] += 1
        counts["all"][outcome] += 1
    return {kind: dict(sorted(count.items())) for kind, count in counts.items()}


def rates(record: Record, seconds: float) -> dict[str, dict[str, float]]:
    """By kind: successes a second of ``seconds``, and milliseconds that they took at the median and 99th percentile."""
    spent: dict[str, list[float]] = {}
    for one in record.exchanges:
        if one.status == 200 and one.kind != "check":
            for kind in (one.kind, "all"):
                spent.setdefault(kind, []).append(one.got - one.sent)
    return {
        kind: {
            "requests": len(some),
            "per_second": len(some) / seconds,
            "p50_ms": 1e3 * float(np.median(some)),
            "p99_ms": 1e3 * float(np.percentile(some, 99)),
        }
        for kind, some in sorted(spent.items())
    }


def changes(record: Record) -> dict[str, int]:
    """How much the proofs had to go by: items accepted, removed, in doubt, and those that lists named."""
    items, killed = record.items.values(), record.outages[0][0] if record.outages else inf
    listed = {item_id for one in record.exchanges if one.kind == "recommend" for item_id in one.listed}
    added = {item.item_id for item in items if -inf < item.add_got < inf}
    removed = [item for item in items if -inf < item.remove_got < inf]
    # "a list, then removed": those whose coming back a list would have shown
    first = {item.item_id for item in removed if item.item_id in listed}
    return {
        "added": len(added),
        "added before the kill": sum(record.items[one].add_got < killed for one in added),
        "additions in doubt": sum(-inf < item.add_sent < inf and item.add_got == inf for item in items),
        "removed": len(removed),
        "removed before the kill": sum(item.remove_got < killed for item in removed),
        "removals in doubt": sum(-inf < item.remove_sent < inf and item.remove_got == inf for item in items),
        "added items that lists named": len(added & listed),
        "removed items that lists had named": len(first),
    }
