"""Memory of big files, measured in a process of its own."""

import subprocess
import sys

import numpy as np
import polars as pl
import pytest

READ = """
import resource, sys, time
from storerec.data import read_events, read_items
start = time.perf_counter()
histories = read_events(sys.argv[2], read_items(sys.argv[1]))
if sys.platform == "linux":  # not ru_maxrss, which begins at what the process that started this one had
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    peak = int(status["VmHWM"].split()[0]) / (1 << 10)
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
print(len(histories), histories.items.size, peak, time.perf_counter() - start)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the resource module is not there")
def test_ten_million_events_within_two_gib(tmp_path):
    events, rng = 10_000_000, np.random.default_rng(0)
    table = pl.DataFrame(
        {
            "user_id": rng.integers(10_000_000, 11_000_000, events),
            "item_id": rng.zipf(1.3, events) % 100_000,
            "timestamp": rng.integers(1_000_000_000, 1_700_000_000, events),
        }
    )
    table.with_columns(pl.format("user-{}", "user_id").alias("user_id")).write_csv(tmp_path / "events.csv")
    pl.DataFrame({"item_id": range(100_000), "title": ["a"] * 100_000}).write_csv(tmp_path / "items.csv")
    command = [sys.executable, "-c", READ, str(tmp_path / "items.csv"), str(tmp_path / "events.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    users, kept, peak, seconds = map(float, done.stdout.split())
    print(f"{kept:.0f} events of {users:.0f} users: peak {peak:.0f} MiB, {seconds:.1f} s")  # noqa: T201
    assert users == table["user_id"].n_unique()
    assert kept == events
    assert peak < 2048
