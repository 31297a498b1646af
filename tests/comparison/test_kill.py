"""A comparison that is killed, and one of whose systems fails."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from storerec.comparison import Grid, compare, load_data, resolve
from tests.comparison import raw
from tests.comparison.compare_once import SYSTEMS

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::storerec.errors.StorerecWarning"),
]
TIMES = ("train_seconds", "recommend_seconds", "notes")


def figures(folder):
    """All of comparison.json but for times, and what is said of them."""
    found = json.loads((folder / "report" / "comparison.json").read_text())
    for system in found["systems"].values():
        for name in TIMES:
            system.pop(name)
    return found


def start(*arguments):
    command = [sys.executable, "-m", "tests.comparison.compare_once", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def kill_when(process, ready):
    """Kill -9 a comparison and its cells as soon as ``ready()``."""
    deadline = time.monotonic() + 300
    while not ready():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)  # its session: the cells are in it
    process.wait()
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL


def test_killed_comparisons_end_as_an_unbroken_one(raw_mind, tiny_backbone, encoder, tmp_path):
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    given = raw_mind, tiny_backbone("llama"), encoder
    data, config = load_data(f"mind:{raw_mind}"), raw.config("mind", *given[1:])
    grid = Grid(resolve(SYSTEMS), (1,), jobs=0, threads=1)
    compare(data, config, grid, unbroken, raw.OPTIONS, lambda line: None)

    def there(pattern):
        def look():
            try:
                return any((broken / "stages").glob(pattern))
            except FileNotFoundError:  # a checkpoint was dropped while the search was in it
                return False

        return look

    # in the middle of a training, beside a cell that is done or under way; and between stages of one cell
    for pattern in ("model-*/work/**/trainer_state.json", "codes-*/done.json"):
        kill_when(start(*given, broken), there(pattern))
        assert not (broken / "report").exists()
    left = list((broken / "stages").glob("*/done.json"))
    assert left, "something was finished"
    before = {path: path.stat().st_mtime_ns for path in left}
    last = start(*given, broken)
    output, _ = last.communicate(timeout=300)
    assert last.returncode == 0, output
    assert figures(broken) == figures(unbroken)
    assert {path: path.stat().st_mtime_ns for path in left} == before, "what was finished is not made again"


def test_a_system_that_fails_leaves_the_others_alone_and_is_repaired(raw_mind, tiny_backbone, encoder, tmp_path):
    data = load_data(f"mind:{raw_mind}")
    missing = tmp_path / "not yet an encoder"
    config = raw.config("mind", tiny_backbone("llama"), missing)
    grid = Grid(resolve(["markov", "tiger", "sasrec"]), (1,), jobs=0)
    said = []
    result = compare(data, config, grid, tmp_path / "out", raw.OPTIONS, said.append).ranking
    assert list(result.systems) == ["markov", "sasrec"]
    assert list(result.failures) == ["tiger, seed 1"]
    reason = result.failures["tiger, seed 1"]
    assert "not yet an encoder" in reason
    assert "\n" not in reason
    assert len([line for line in said if "tiger" in line and "FAILED" in line]) == 1
    for name in ("report.md", "report.html"):
        text = (tmp_path / "out" / "report" / name).read_text(encoding="utf-8")
        assert "tiger" in text
        assert "not yet an encoder" in text
    shutil.copytree(encoder, missing)
    said.clear()
    repaired = compare(data, config, grid, tmp_path / "out", raw.OPTIONS, said.append).ranking
    assert repaired.failures == {}
    assert list(repaired.systems) == ["markov", "sasrec", "tiger"]
    assert "  2/3 stand from an earlier call" in said
    assert repaired.systems["sasrec"].item_level == result.systems["sasrec"].item_level
