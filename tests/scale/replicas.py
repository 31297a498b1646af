"""A program that serves in replicas on a cluster, and clients of it that ask until they are answered."""

import time
from contextlib import contextmanager

import httpx

from storerec.config import RunOptions
from storerec.llm.progress import Progress
from storerec.pipeline import RunFolder, fit
from tests import worlds
from tests.scale.cluster import wait_for, workers_of
from tests.serving.program import Program

OPTIONS = RunOptions(device="cpu", dtype="float32", progress=False)
REPLICA = "ray::ServeReplica:storerec"
AGAIN = (429, 503)
"""Answers that ask for another attempt, as a lost connection does."""


def fitted(backbone, folder, seed=0):
    """The shop's bundle, of a training of its own for each seed."""
    catalogue, histories = worlds.data()
    options = OPTIONS.model_copy(update={"seed": seed})
    run = RunFolder.create(folder, catalogue, histories, worlds.config(backbone), options)
    fit(run, Progress(enabled=False))
    return run.path / "bundle"


@contextmanager
def served(cluster, folder, *flags, replicas=2):
    """The program, ready, on ``cluster``."""
    where = ("--engine", "ray", "--address", cluster.address, "--workers", replicas)
    running = Program(folder, *where, *flags)
    try:
        assert running._ready.wait(240)
        assert running.url, running.lines
        yield running
    finally:
        if running.process.poll() is None:
            running.process.terminate()
            try:
                running.process.wait(120)
            finally:
                running.process.kill()


def processes(cluster, name=REPLICA):
    """Processes of this cluster whose title begins so."""
    return [one for node in cluster.list_all_nodes() for one in workers_of(name, node)]


class Asking(httpx.Client):
    """Asks until it is answered.

    Attributes
    ----------
    attempts: of all requests so far.
    """

    def __init__(self, url):
        super().__init__(base_url=url, timeout=120)
        self.attempts = 0

    def tell(self, method, path, **request):
        """The first answer that does not ask for another attempt."""
        until = time.monotonic() + 240
        while True:
            self.attempts += 1
            try:
                answer = self.request(method, path, **request)
            except httpx.TransportError as error:
                failed = repr(error)
            else:
                if answer.status_code not in AGAIN:
                    return answer
                failed = answer.text
            assert time.monotonic() < until, failed
            time.sleep(0.1)

    def of_all(self, method, path, *, replicas=2, **request):
        """An answer of each replica, by its name."""
        found = {}

        def asked():
            answer = self.tell(method, path, **request)
            assert answer.status_code == 200, answer.text
            found[answer.headers["x-replica"]] = answer
            return len(found) == replicas

        wait_for(asked, seconds=240, every=0)
        return {name: answer.json() for name, answer in found.items()}

    def add(self, item, **text):
        return self.tell("POST", "/v1/items", json={"items": [{"item_id": item, "text": text}]})

    def remove(self, item):
        return self.tell("DELETE", f"/v1/items/{item}")

    def recommended(self, history, k=100):
        """Ids recommended, of whichever replica."""
        answer = self.tell("POST", "/v1/recommend", json={"history": history, "k": k})
        assert answer.status_code == 200, answer.text
        return [one["item_id"] for one in answer.json()["items"]]
