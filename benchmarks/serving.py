"""Recommending over HTTP against transformers' ``generate`` behind the same endpoint.

    python -m benchmarks.serving --run runs/demo --out runs/bench

A finished run (``make demo`` makes one) is served twice by the same service, queue and micro-batches included: once as
``storerec serve`` does it, once with each batch answered by ``generate`` on the exported model with the code tree as
its logits processor. Both search by codes alone, as wide as the run says, so both must give the same items. Answers are
not kept. 1, 8 and 32 clients ask one after the other for the test users' next items; each line has requests per second
and the median and 99th percentile of what a client waits. Last, one client adds items while eight others ask.

There is no bound by counting: of a request's time the layers are the smaller part.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.harness import arguments, curve, row, write
from storerec.config import RunOptions
from storerec.errors import StorerecError
from storerec.pipeline import STORE, Live, RecommendAnswer, Recommendation, RecommendRequest, RunFolder

OPTIONS = RunOptions(device="cpu", progress=False)
CLIENTS = (1, 8, 32)


class GenerateLive(Live):
    """Answers by ``generate`` on an exported model."""

    model: Any
    folder: Path
    processors: dict[int, Any]
    first_item: int
    first_code: np.ndarray
    leaves: dict[tuple[int, ...], int]

    def recommend(self, requests: Sequence[RecommendRequest]) -> list[RecommendAnswer | StorerecError]:
        """One batch, histories padded to the left."""
        import torch

        from storerec.pipeline.export import load_processor

        backbone = self.store.recommender.backbone
        begin = backbone.encode([self.store.config.recommender.prompts.sequence], max_tokens=999, begin=True).flat
        ids = [[*begin.tolist(), *self._words(request.history)] for request in requests]
        longest = max(map(len, ids))
        mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in ids])
        prompt = torch.tensor([[0] * (longest - len(one)) + one for one in ids])
        processor = load_processor(self.folder, longest) if longest not in self.processors else self.processors[longest]
        self.processors[longest] = processor
        beam = self.store.config.search.beam
        with torch.no_grad():
            out = self.model.generate(
                prompt, attention_mask=mask, logits_processor=[processor], pad_token_id=0,
                **processor.generation(beam), return_dict_in_generate=True, output_scores=True,
            )  # fmt: skip
        codes = (out.sequences[:, longest:].numpy() - np.array(processor.starts[:-1])).reshape(len(ids), beam, -1)
        scores = out.sequences_scores.numpy().reshape(len(ids), beam)
        return [self._answer(*one, request.k) for *one, request in zip(codes, scores, requests, strict=True)]

    def _words(self, history: Sequence[str]) -> list[int]:
        rows = self.store.catalogue.rows(history)[-self.store.config.recommender.max_history :]
        if self.store.config.recommender.history == "items":
            return (self.first_item + rows).tolist()
        return (self.store.table.codes[rows] + self.first_code).flatten().tolist()

    def _answer(self, codes: np.ndarray, scores: np.ndarray, k: int) -> RecommendAnswer:
        table, found = self.store.table, []
        leaves = self.leaves
        for one, score in zip(codes.tolist(), scores.tolist(), strict=True):
            leaf = leaves.get(tuple(one))
            rows = [] if leaf is None else table.bucket(leaf).tolist()
            found += [(score + float(table.shares[row]), -row) for row in rows]
        best = sorted(found, reverse=True)[:k]
        ids, titles = self.store.catalogue.ids, self.store.catalogue.titles
        return RecommendAnswer(
            tuple(
                Recommendation(ids[-row], titles[-row], score, tuple(table.codes[-row].tolist())) for score, row in best
            )
        )


def serve_generate(bundle: Path, model: Path, port: int) -> None:
    """Serve with ``generate`` until killed."""
    import uvicorn
    from transformers import AutoModelForCausalLM

    from storerec.serving.app import create_app
    from storerec.serving.config import ServingConfig
    from storerec.serving.service import Service

    def load() -> Live:
        live = GenerateLive.open(bundle, options=OPTIONS)
        assert isinstance(live, GenerateLive)
        live.folder, live.model, live.processors = model, AutoModelForCausalLM.from_pretrained(model).eval(), {}
        first = json.loads((model / "storerec.json").read_text(encoding="utf-8"))["first_code"]
        ends = np.cumsum([0, *live.store.table.sizes])
        live.first_code, live.first_item = first + ends[:-1], int(first + ends[-1])
        live.leaves = {tuple(codes): leaf for leaf, codes in enumerate(live.store.table.tuples.tolist())}
        return live

    config = ServingConfig(port=port, cache_size=0, deadline_seconds=300, queue_size=512)
    uvicorn.run(create_app(Service(bundle, load, config)), port=port, log_level="warning")


@contextmanager
def running(*command: str) -> Iterator[str]:
    """A server process on a free port, once it is ready: its url."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([part.replace("PORT", str(port)) for part in command])
    try:
        for _ in range(600):
            time.sleep(0.2)
            if process.poll() is not None:
                raise SystemExit(f"the server ended: {command}")
            try:
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                continue
        yield url
    finally:
        process.terminate()
        process.wait(60)


async def ask(url: str, histories: Sequence[list[str]], clients: int, seconds: float) -> np.ndarray:
    """Seconds of each request of ``clients`` that ask one after the other."""
    spent: list[float] = []
    until = time.perf_counter() + seconds

    async def client(number: int) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=None) as http:
            place = number
            while time.perf_counter() < until:
                started = time.perf_counter()
                answer = await http.post("/v1/recommend", json={"history": histories[place % len(histories)], "k": 10})
                answer.raise_for_status()
                spent.append(time.perf_counter() - started)
                place += clients

    await asyncio.gather(*(client(number) for number in range(clients)))
    return np.array(spent)


async def add_beside(url: str, histories: Sequence[list[str]], attributes: Sequence[str], seconds: float) -> np.ndarray:
    """Seconds of each addition of one item, while eight clients ask."""
    spent: list[float] = []
    until = time.perf_counter() + seconds

    async def add() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=None) as http:
            while time.perf_counter() < until:
                text = {name: f"a new film number {len(spent)}" for name in attributes}
                started = time.perf_counter()
                item = {"item_id": f"new-{len(spent)}", "text": text}
                (await http.post("/v1/items", json={"items": [item]})).raise_for_status()
                spent.append(time.perf_counter() - started)
                await asyncio.sleep(0.25)

    await asyncio.gather(ask(url, histories, 8, seconds), add())
    return np.array(spent)


def measured(spent: np.ndarray, seconds: float) -> dict[str, float]:
    """Requests per second, and milliseconds at the median and the 99th percentile."""
    return {
        "requests": len(spent),
        "per_second": len(spent) / seconds,
        "p50_ms": 1e3 * float(np.median(spent)),
        "p99_ms": 1e3 * float(np.percentile(spent, 99)),
    }


def agreement(first: str, second: str, histories: Sequence[list[str]]) -> float:
    """Share of ten items that both servers give, over some users."""
    lists = [
        [
            {
                one["item_id"]
                for one in httpx.post(f"{url}/v1/recommend", json={"history": past}, timeout=None).json()["items"]
            }
            for past in histories
        ]
        for url in (first, second)
    ]
    return float(np.mean([len(a & b) / 10 for a, b in zip(*lists, strict=True)]))


def main() -> None:
    """Measure."""
    if len(sys.argv) > 1 and sys.argv[1] == "generate":
        serve_generate(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
        return
    given = arguments(__doc__, run=("runs/demo", "finished run folder"), seconds=(20.0, "seconds of each load"))
    from storerec.pipeline.export import export_model

    run = RunFolder.open(Path(given.run), OPTIONS)
    past, ids = run.split.test.histories, run.catalogue.ids
    histories = [[ids[int(row)] for row in past.sequence(user)[-50:]] for user in range(len(past))]
    with tempfile.TemporaryDirectory() as temporary:
        bundle, model = Path(temporary) / "bundle", Path(temporary) / "model"
        store = STORE.of_run(run)
        search = store.config.search.model_copy(update={"item_weight": 0.0})
        store.config = store.config.model_copy(update={"search": search})
        store.save(bundle)
        export_model(store, model)
        (Path(temporary) / "serving.json").write_text('{"cache_size": 0, "deadline_seconds": 300, "queue_size": 512}')
        ours = [sys.executable, "-c", "from storerec.cli import main; main()", "serve", str(bundle), "--port", "PORT",
                "--device", "cpu", "--config", f"{temporary}/serving.json"]  # fmt: skip
        theirs = [sys.executable, "-m", "benchmarks.serving", "generate", str(bundle), str(model), "PORT"]
        found: dict[str, dict[int, dict[str, float]]] = {"ours": {}, "generate": {}}
        with running(*ours) as url, running(*theirs) as other:
            same = agreement(url, other, histories[:20])
            for clients in CLIENTS:
                for name, where in (("ours", url), ("generate", other)):
                    asyncio.run(ask(where, histories, clients, 2.0))  # warm
                    spent = asyncio.run(ask(where, histories, clients, given.seconds))
                    found[name][clients] = measured(spent, given.seconds)
                    print(name, clients, found[name][clients], flush=True)
            attributes = run.catalogue.attributes
            added = measured(asyncio.run(add_beside(url, histories, attributes, given.seconds)), given.seconds)
    lines = []
    for clients in CLIENTS:
        a, b = found["ours"][clients], found["generate"][clients]
        told = f"p50 {a['p50_ms']:.0f} ms, p99 {a['p99_ms']:.0f} ms; theirs {b['p50_ms']:.0f} and {b['p99_ms']:.0f}"
        lines.append(
            row(
                f"recommending over HTTP, {clients} client{'s' * (clients > 1)}", 1 / a["per_second"],
                1 / b["per_second"], bound=0.0, counted="seconds a request; no bound counted",
                goal=8.0 if clients == 8 else 0.0, same=f"{told}; {same:.3f} of ten items the same",
            )
        )  # fmt: skip
    lines.append(
        row(
            "adding an item beside eight clients", added["p50_ms"] / 1e3, None, bound=added["p99_ms"] / 1e3, goal=1.0,
            counted="the bound column holds the 99th percentile", same=f"{added['requests']} items added",
        )
    )  # fmt: skip
    grows = curve(
        "requests over HTTP", "clients", "seconds a request", CLIENTS,
        **{name: [1 / found[name][clients]["per_second"] for clients in CLIENTS] for name in found},
    )  # fmt: skip
    write("serving", given, lines, loads={n: {str(c): m for c, m in v.items()} for n, v in found.items()}, adding=added,
          curves=[grows])  # fmt: skip


if __name__ == "__main__":
    main()
