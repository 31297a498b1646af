"""``storerec serve`` as it is run: start, kill, stop, reload, and errors before it listens."""

import concurrent.futures
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from tests.cli.conftest import call
from tests.cli.conftest import is_error as ends_with
from tests.serving.program import program
from tests.serving.talk import NEW

KEY = "0123456789abcdef-key"


def recommended(client, history, k=30):
    answer = client.post("/v1/recommend", json={"history": history, "k": k})
    assert answer.status_code == 200, answer.text
    return [one["item_id"] for one in answer.json()["items"]]


def test_what_was_answered_is_there_after_a_kill(folder):
    answered = []
    with program(folder) as running, httpx.Client(base_url=running.url, timeout=60) as client:
        assert len(recommended(client, ["item-0"], 5)) == 5
        assert client.post("/v1/items", json={"items": [NEW]}).json()["items"][0]["status"] == "added"
        assert client.delete("/v1/items/item-2").json()["status"] == "removed"

        def add():
            with httpx.Client(base_url=running.url, timeout=60) as other:
                for number in range(10_000):
                    item = {"item_id": f"n-{number}", "text": {"title": f"thing {number}"}}
                    try:
                        other.post("/v1/items", json={"items": [item]}).raise_for_status()
                    except httpx.TransportError:
                        return
                    answered.append(item["item_id"])

        adding = threading.Thread(target=add)
        adding.start()
        until = time.monotonic() + 30
        while len(answered) < 5 and time.monotonic() < until:
            time.sleep(0.01)
        assert running.end(signal.SIGKILL) == -signal.SIGKILL
        adding.join(30)
    assert len(answered) >= 5
    with program(folder) as running, httpx.Client(base_url=running.url, timeout=60) as client:
        found = {one["item_id"] for one in client.get("/v1/search?q=thing&limit=100").json()["items"]}
        # the one on its way at the kill may be there or not
        assert set(answered) <= found
        assert len(found) <= len(answered) + 1
        now = recommended(client, ["item-0", "new-1"], 100)
        assert {"new-1", *answered} <= set(now)
        assert "item-2" not in now
        assert running.end(signal.SIGTERM) == 0


def test_a_stop_answers_what_was_asked_and_ends_well(folder):
    with program(folder, "--max-wait-ms", 1000, "--max-batch", 64) as running:
        threads = concurrent.futures.ThreadPoolExecutor(8)
        with threads, httpx.Client(base_url=running.url, timeout=60) as client:
            asked = [threads.submit(client.post, "/v1/recommend", json={"history": [f"item-{i}"]}) for i in range(8)]
            until = time.monotonic() + 20
            while "storerec_queue_depth 8.0" not in client.get("/metrics").text and time.monotonic() < until:
                time.sleep(0.01)
            code = running.end(signal.SIGTERM)
            answers = [one.result() for one in asked]
        assert [answer.status_code for answer in answers] == [200] * 8
        assert code == 0, running.lines
        assert not [line for line in running.lines if "Traceback" in line or "error" in line.lower()]
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{running.url}/healthz")


def test_a_key_from_the_environment_and_a_reload_by_signal(folder):
    with program(folder, "--host", "0.0.0.0", STOREREC_API_KEY=KEY) as running:
        url = running.url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/v1/items/item-1").status_code == 401
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as client:
            assert client.get("/v1/items/item-1").status_code == 200
            running.process.send_signal(signal.SIGHUP)
            until = time.monotonic() + 30
            while 'storerec_reloads_total{result="done"} 1.0' not in client.get("/metrics").text:
                assert time.monotonic() < until
                time.sleep(0.05)
            assert len(recommended(client, ["item-0"], 3)) == 3
        assert KEY not in " ".join(running.lines)
        assert running.end(signal.SIGINT) == 0


def test_errors_before_it_listens_are_one_line(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("STOREREC_API_KEY", raising=False)
    assert ends_with(call("serve", folder, "--host", "0.0.0.0"), "--host 0.0.0.0", "--api-key-file", "STOREREC_API_KEY")
    (tmp_path / "key").write_text("short")
    assert ends_with(call("serve", folder, "--api-key-file", tmp_path / "key"), "--api-key-file", "16")
    (tmp_path / "c.json").write_text('{"max_bach": 3}')
    assert ends_with(call("serve", folder, "--config", tmp_path / "c.json"), "c.json", "max_bach")
    assert ends_with(call("serve", folder, "--deadline-seconds", 0), "deadline_seconds")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert ends_with(call("serve", folder, "--port", port), "cannot listen", str(port))


def test_a_folder_without_a_bundle_is_one_line(tmp_path):
    result = call("serve", tmp_path / "none", "--port", 0)
    assert result.exit_code == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "none" in last
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("library", ["fastapi", "uvicorn", "prometheus_client"])
def test_a_library_that_lacks_is_named_with_the_extra(folder, library):
    code = f"import sys; sys.modules[{library!r}] = None; from storerec.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "serve", str(folder)], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert library in done.stderr
    assert "pip install 'storerec[serve]'" in done.stderr
