import os
import subprocess
import sys
from pathlib import Path

from storerec import STORE

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(*args):
    command = [sys.executable, EXAMPLES / "own_tables.py", *args]
    # a model this small is slower on several threads, and far slower where they compete with other work
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [str(part) for part in command]
    done = subprocess.run(command, env=alone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_own_tables_on_its_small_shop(tiny_backbone, tmp_path):
    lines = run("--backbone", tiny_backbone("llama"), "--save", tmp_path / "bundle")
    assert lines[0].startswith("after p")
    assert len(lines) == 6
    history = lines[0].removeprefix("after ").split(", ")
    again = STORE.load(tmp_path / "bundle").recommend(history, k=5)
    assert [line.split()[0] for line in lines[1:]] == [found.item_id for found in again]


def test_own_tables_on_given_files(tiny_backbone, tmp_path):
    items, events = tmp_path / "items.csv", tmp_path / "events.csv"
    items.write_text("item_id,name\n" + "\n".join(f"x{i},thing {i}" for i in range(8)), encoding="utf-8")
    rows = [f"u{u},x{(u + e) % 8},{e}" for u in range(6) for e in range(4)]
    events.write_text("user_id,item_id,timestamp\n" + "\n".join(rows), encoding="utf-8")
    files = ["--items", items, "--events", events, "--history", "x1,x2"]
    lines = run(*files, "--backbone", tiny_backbone("gpt2"))
    assert lines[0] == "after x1, x2"
    assert {line.split()[0] for line in lines[1:]} <= {f"x{i}" for i in range(8)}
