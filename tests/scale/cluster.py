"""Real Ray clusters on this machine: several raylets, each a node of its own, and ways to kill what runs on them."""

import os
import signal
import time
from contextlib import contextmanager

import psutil
import pytest

ray = pytest.importorskip("ray")

from storerec.scale.cluster import needs_ray

STORE_BYTES = 120 << 20


@contextmanager
def raylets(count=2, cpus=2):
    """A cluster of ``count`` nodes with ``cpus`` each, all on this machine."""
    needs_ray()
    ray.shutdown()
    before = os.environ.pop("RAY_ADDRESS", None)
    made = None
    try:
        made = _started(count, cpus) or _started(count, cpus)  # a machine busy with other tests may be too slow once
        assert made is not None, "Ray does not start on this machine"
        yield made
    finally:
        ray.shutdown()
        if made is not None:
            made.shutdown()
        if before is not None:
            os.environ["RAY_ADDRESS"] = before


def _started(count, cpus):
    from ray.cluster_utils import Cluster

    made = None
    try:
        made = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": cpus, "object_store_memory": STORE_BYTES, "include_dashboard": False},
        )
        for _ in range(count - 1):
            made.add_node(num_cpus=cpus, object_store_memory=STORE_BYTES)
        made.wait_for_nodes(timeout=120)
    except (OSError, RuntimeError, TimeoutError):
        if made is not None:
            made.shutdown()
        return None
    return made


def workers_of(name, node=None):
    """Ray's worker processes whose title holds ``name`` (titles carry the actor's class and method), on one node."""
    raylet = node.all_processes["raylet"][0].process.pid if node is not None else None
    found = []
    for process in psutil.process_iter(["cmdline", "ppid"]):
        title = " ".join(process.info["cmdline"] or [])
        if title.startswith("ray::") and name in title and raylet in (None, process.info["ppid"]):
            found.append(process)
    return found


def kill(process):
    os.kill(process.pid, signal.SIGKILL)


def wait_for(condition, *, seconds=120.0, every=0.05):
    """Wait until ``condition()`` is true and give it; fails after ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(every)
    raise AssertionError(f"nothing within {seconds} s")
