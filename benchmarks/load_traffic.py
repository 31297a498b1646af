"""Clients of a service: each asks one request after the other, of mixed kinds, and all are written down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from math import inf
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np

from benchmarks.load_record import NOT_BEGUN, Exchange, Item, Record

MIX = {"recommend": 0.72, "score": 0.08, "add": 0.06, "remove": 0.03, "lookup": 0.07, "search": 0.04}
"""Share of each kind of request."""

_WORDS = ("amber", "bridge", "cedar", "desert", "engine", "forest", "garden", "harbour", "island", "kettle", "lantern")
_PAUSE = 0.2
"""Seconds before a client goes on that was refused, or got no answer."""

_REPEATED = 40
"""Histories that are asked again and again, so that kept answers are among those given."""


class Traffic:
    """What the clients know of each other: items that were accepted, and those that may be removed.

    Parameters
    ----------
    attributes: of the catalogue; ``title`` is the one that is searched.
    """

    def __init__(
        self, http: httpx.AsyncClient, record: Record, attributes: Sequence[str], title: str, *, max_k: int, seed: int
    ) -> None:
        self.http, self.record, self.going = http, record, True
        self._attributes, self._title, self._max_k, self._seed = attributes, title, max_k, seed
        self._known = [one.item_id for one in record.items.values()]  # removed ones too: histories may hold them
        self._there = [one.item_id for one in record.items.values() if one.remove_sent == inf]
        self._least = len(self._there) * 2 // 3  # the catalogue is not emptied
        self._added: list[str] = []
        self._made = 0
        rng = np.random.default_rng(seed)
        self._repeated = [self._history(rng) for _ in range(_REPEATED)]

    async def client(self, number: int) -> None:
        """Ask until the load ends."""
        rng = np.random.default_rng([self._seed, number])
        kinds, shares = list(MIX), list(MIX.values())
        while self.going:
            kind = str(rng.choice(kinds, p=shares))
            done = await getattr(self, f"_{kind}")(rng)
            if done.status in (0, 429, 503):
                await asyncio.sleep(_PAUSE)

    async def lookup(self, item_id: str, kind: str = "lookup") -> Exchange:
        """Ask for an item."""
        done, body = await self._ask("GET", f"/v1/items/{quote(item_id, safe='')}", params={"neighbours": 3})
        near = _ids(body.get("neighbours", ()))
        title = body.get("text", {}).get(self._title)
        return self._noted(kind, done, named=(item_id,), listed=near, told=title)

    async def _lookup(self, rng: np.random.Generator) -> Exchange:
        return await self.lookup(self._some(rng, self._known, 1)[0])

    async def _recommend(self, rng: np.random.Generator) -> Exchange:
        history, k = self._history(rng), 10
        if rng.random() < 0.5:
            history = self._repeated[int(rng.integers(_REPEATED))]
        elif rng.random() < 0.1:
            k = self._max_k
        done, body = await self._ask("POST", "/v1/recommend", json={"history": history, "k": k})
        unknown = tuple(body.get("unknown", ()))
        return self._noted("recommend", done, named=tuple(history), listed=_ids(body.get("items", ())), unknown=unknown)

    async def _score(self, rng: np.random.Generator) -> Exchange:
        some = self._some(rng, self._there, 10)
        done, body = await self._ask("POST", "/v1/score", json={"history": self._history(rng), "candidates": some})
        return self._noted("score", done, named=tuple(some), listed=_ids(body.get("items", ())))

    async def _search(self, rng: np.random.Generator) -> Exchange:
        done, body = await self._ask("GET", "/v1/search", params={"q": str(rng.choice(_WORDS)), "limit": 50})
        return self._noted("search", done, listed=_ids(body.get("items", ())))

    async def _add(self, rng: np.random.Generator) -> Exchange:
        new = [self._new(rng) for _ in range(3 if rng.random() < 0.2 else 1)]
        self.record.items |= {item.item_id: item for item in new}
        other = dict.fromkeys(self._attributes, _words(rng, 2))
        bodies = [{"item_id": item.item_id, "text": other | {self._title: item.title}} for item in new]
        for item in new:
            item.add_sent = time.monotonic()
        done, _ = await self._ask("POST", "/v1/items", json={"items": bodies})
        for item in new:
            if done.status == 200:
                item.add_got = done.got
                for ids in (self._added, self._known, self._there):
                    ids.append(item.item_id)
            elif done.error in NOT_BEGUN:
                item.add_sent = inf
        return self._noted("add", done)

    async def _remove(self, rng: np.random.Generator) -> Exchange:
        if len(self._there) <= self._least:
            return await self._recommend(rng)
        # new and old items alike; taken out first, so that no other client removes it too
        item = self.record.items[self._some(rng, self._there, 1)[0]]
        self._there.remove(item.item_id)
        item.remove_sent = time.monotonic()
        done, _ = await self._ask("DELETE", f"/v1/items/{quote(item.item_id, safe='')}")
        if done.status == 200:
            item.remove_got = done.got
        elif done.error in NOT_BEGUN:
            item.remove_sent = inf
            self._there.append(item.item_id)
        return self._noted("remove", done)

    async def _ask(self, method: str, path: str, **request: Any) -> tuple[Exchange, dict[str, Any]]:
        sent = time.monotonic()
        try:
            answer = await self.http.request(method, path, **request)
        except httpx.TransportError as error:
            return Exchange("", sent, time.monotonic(), 0, type(error).__name__), {}
        got, body = time.monotonic(), answer.json()
        error = body.get("error", {}).get("type", "") if answer.status_code != 200 else ""
        return Exchange("", sent, got, answer.status_code, error), body

    def _noted(self, kind: str, done: Exchange, **more: Any) -> Exchange:
        whole = Exchange(kind, done.sent, done.got, done.status, done.error, **more)
        self.record.exchanges.append(whole)
        return whole

    def _history(self, rng: np.random.Generator) -> list[str]:
        return self._some(rng, self._known, int(rng.integers(1, 30)))

    def _some(self, rng: np.random.Generator, ids: Sequence[str], count: int) -> list[str]:
        """Ids of ``ids``; every other time the first is one of the latest items added, by whichever client."""
        some = [ids[place] for place in rng.integers(len(ids), size=count)]
        if self._added and rng.random() < 0.5:
            latest = self._added[-int(rng.integers(1, 5)) :][0]
            if ids is self._known or latest in self._there:
                some[0] = latest
        return list(dict.fromkeys(some))

    def _new(self, rng: np.random.Generator) -> Item:
        self._made += 1
        number = self._made
        return Item(f"load-{self._seed}-{number}", f"{_words(rng, 3)} {number}", inf, inf)


def _words(rng: np.random.Generator, count: int) -> str:
    return " ".join(rng.choice(_WORDS, count))


def _ids(found: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(one["item_id"] for one in found)
