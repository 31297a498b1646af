"""What takes minutes: replicas that come with requests, a lost node, a killed program, a reload by signal."""

import os
import shutil
import signal
import threading
import time

import httpx
import pytest

from tests.scale.cluster import ray, wait_for
from tests.scale.replicas import Asking, fitted, processes, served
from tests.serving.program import Program

pytestmark = pytest.mark.skipif("STOREREC_LONG_TESTS" not in os.environ, reason="STOREREC_LONG_TESTS is not set")


@pytest.fixture
def bundle(tiny_backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    return shutil.copytree(fitted(tiny_backbone("llama"), folder / "run"), folder / "bundle")


def test_many_requests_bring_more_replicas(cluster, bundle):
    flags = ("--max-replicas", 2, "--max-batch", 2, "--queue-size", 200)
    with served(cluster, bundle, *flags, replicas=1) as running, Asking(running.url) as client:
        assert len(processes(cluster)) == 1
        going = True

        def ask():
            with Asking(running.url) as own:
                while going:
                    own.recommended(["item-0", f"item-{time.monotonic_ns() % 24}"], 5)

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(16)]
        for thread in threads:
            thread.start()
        try:
            assert client.add("n-0", title="a purple umbrella").status_code == 200
            found = client.of_all("GET", "/v1/search", params={"q": "umbrella"})
        finally:
            going = False
        assert [[one["item_id"] for one in answer["items"]] for answer in found.values()] == [["n-0"], ["n-0"]]
        for thread in threads:
            thread.join(120)


def test_a_lost_node_is_made_up_for(cluster, bundle):
    away = cluster.add_node(num_cpus=2, object_store_memory=120 << 20)
    with served(cluster, bundle, replicas=4) as running, Asking(running.url) as client:
        client.of_all("GET", "/readyz", replicas=4)
        client.add("n-0", title="a purple umbrella")
        cluster.remove_node(away, allow_graceful=False)
        for number in range(20):
            assert client.add(f"m-{number}", title=f"thing {number}").status_code == 200
        wait_for(lambda: len(processes(cluster)) == 4)
        names = client.of_all("GET", "/v1/search", params={"q": "thing", "limit": 100}, replicas=4)
        assert {len(one["items"]) for one in names.values()} <= {20}


def test_what_a_killed_program_left_goes_on_until_another_takes_its_place(cluster, bundle):
    with served(cluster, bundle) as running, Asking(running.url) as client:
        client.add("n-0", title="a purple umbrella")
        running.process.kill()
        running.process.wait(10)
        assert "n-0" in client.recommended(["item-0"])
        other = Program(bundle, "--engine", "ray", "--address", cluster.address)
        assert other.process.wait(120) == 2
        time.sleep(31)
        assert "n-0" in client.recommended(["item-0"])
        # Serve itself was left as well, so the address is still its own
        with served(cluster, bundle, replicas=1) as again, Asking(again.url) as fresh:
            assert again.url == running.url
            assert "n-0" in fresh.recommended(["item-0"])


def test_a_hang_up_reloads_all_and_an_interrupt_of_all_processes_ends_well(bundle):
    program = Program(bundle, "--engine", "ray", "--workers", 2, own_session=True)
    try:
        assert program._ready.wait(240)
        assert program.url, program.lines
        with Asking(program.url) as client:
            client.of_all("GET", "/readyz")
            program.process.send_signal(signal.SIGHUP)
            seen = set()

            def reloaded():
                text = client.get("/metrics").text
                seen.update(line for line in text.splitlines() if line.startswith("storerec_reloads_total{"))
                return len(seen) == 2

            wait_for(reloaded)
            assert all('result="done"' in line for line in seen)
        os.killpg(program.process.pid, signal.SIGINT)  # as Ctrl-C in a terminal
        assert program.process.wait(120) == 0, program.lines
    finally:
        if program.process.poll() is None:
            os.killpg(program.process.pid, signal.SIGKILL)
    with pytest.raises(httpx.ConnectError):
        httpx.get(program.url)


def test_another_application_at_the_address_is_told(cluster, bundle):
    serve = pytest.importorskip("ray.serve")

    @serve.deployment
    def other():
        return "hello"

    ray.init(address=cluster.address, log_to_driver=False)
    try:
        serve.run(other.bind(), name="other", route_prefix="/")
        program = Program(bundle, "--engine", "ray", "--address", cluster.address)
        assert program.process.wait(120) == 2
        program._reader.join(10)
        assert program.lines[-1].startswith("error: ")
        assert "Traceback" not in " ".join(program.lines)
        assert "other" in serve.status().applications
    finally:
        serve.shutdown()
        ray.shutdown()
