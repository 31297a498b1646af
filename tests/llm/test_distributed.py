"""Two processes train as one does with the same batches."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import tiny
from tests.llm import others, together

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
WHOLE = [*(f"recommender-{family}" for family in tiny.FAMILIES), "tokenizer-opt", "tokenizer-llama"]
OTHERS = [f"{kind}-gpt2" for kind in others.KINDS]
TRIO = "recommender-gpt2-trio"
SHARDED = ["tokenizer-opt-sharded", "recommender-gpt2-sharded", f"{TRIO}-sharded"]
BEGUN = "tokenizer-opt-begun"
SECONDS = 600


@pytest.fixture(scope="module")
def folders(tiny_backbone, tmp_path_factory):
    """Folders of trainings by one process (one of each is only begun) and by two."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    for folder in (one, two):
        (folder / "backbones").mkdir()
        for family in tiny.FAMILIES:
            (folder / "backbones" / family).symlink_to(tiny_backbone(family))
    together.main(one, BEGUN)
    shutil.copytree(one / BEGUN, two / "tokenizer-opt-resumed")
    go_on(two / "tokenizer-opt-resumed" / "work")
    launched = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m",
         "tests.llm.together", two, *WHOLE, *OTHERS, TRIO, *SHARDED, BEGUN, "tokenizer-opt-resumed", "unseen"],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
    assert launched.returncode == 0, launched.stderr
    assert "reducer.cpp" not in launched.stderr, "torch's warning about weights that every step uses"
    return one, two


def go_on(phase):
    """Let a training that a budget of no minutes ended be one that was broken off."""
    for mark in phase.glob("checkpoint-*/whole"):
        mark.write_text("")
    (phase / "log.json").unlink()


def read(folder, name):
    return json.loads((folder / name / "result.json").read_text()), load_file(folder / name / "weights.safetensors")


def assert_same(found, expected, *, family):
    (logs, weights), (other_logs, other_weights) = found, expected
    assert logs.keys() == other_logs.keys()
    for phase in logs.keys() - {"held"}:
        assert [entry.keys() for entry in logs[phase]] == [entry.keys() for entry in other_logs[phase]]
        for entry, other in zip(logs[phase], other_logs[phase], strict=True):
            # losses are summed in float32 for the log
            assert entry == pytest.approx(other, rel=1e-6)
    assert weights.keys() == other_weights.keys()
    # Llama's and Qwen's norms compute in float32 whatever their input, so the last bits of a batch's shape count
    close = 1e-4 if family in ("llama", "qwen") else 1e-7
    for name in weights:
        torch.testing.assert_close(weights[name], other_weights[name], rtol=close, atol=close, msg=name)


@pytest.mark.parametrize("name", WHOLE + OTHERS)
def test_losses_metrics_and_weights_are_those_of_one_process(folders, name):
    one, two = folders
    together.main(one, name)
    found = read(two, name)
    assert_same(found, read(one, name), family=name.split("-")[1])
    if name.startswith("recommender"):
        assert any("eval_ndcg@10" in entry for entry in found[0]["alone"])
    for checkpoint in (two / name / "work").rglob("checkpoint-*"):
        written = {file.name for file in checkpoint.iterdir()}
        assert {"whole", "rng_state_0.pth", "rng_state_1.pth", "model.safetensors"} <= written


@pytest.mark.parametrize("name", SHARDED)
def test_layers_held_in_parts_change_no_bit(folders, name):
    sharded, replicated = read(folders[1], name), read(folders[1], name.removesuffix("-sharded"))
    for logs, share in ((sharded[0], 2), (replicated[0], 1)):
        if held := logs.pop("held", None):
            assert held["training"] == held["all"] - held["layers"] + held["layers"] // share
    assert sharded[0] == replicated[0]
    assert all(torch.equal(sharded[1][key], replicated[1][key]) for key in replicated[1])


def test_what_one_process_began_two_end(folders):
    assert_same(read(folders[1], "tokenizer-opt-resumed"), read(folders[1], "tokenizer-opt"), family="opt")


def test_what_two_processes_began_one_ends(folders):
    one, two = folders
    shutil.copytree(two / BEGUN, one / "tokenizer-opt-resumed")
    go_on(one / "tokenizer-opt-resumed" / "work")
    together.main(one, "tokenizer-opt-resumed")
    assert_same(read(one, "tokenizer-opt-resumed"), read(two, "tokenizer-opt"), family="opt")


def test_a_folder_that_one_process_does_not_see_is_an_error_of_both(folders):
    first, second = read(folders[1], "unseen")[0]["errors"]
    assert first == second
    assert re.match(r"process 1 of 2 does not see .*/place-1/checkpoints; let all that train together see", first)


def test_an_error_of_one_process_ends_all(tmp_path):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.llm.broken", tmp_path], cwd=ROOT, stderr=subprocess.PIPE, text=True,
            env=ENVIRONMENT | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        told = [one.communicate(timeout=SECONDS)[1].strip() for one in started]
    finally:
        for one in started:
            one.kill()
    assert [one.returncode for one in started] == [3, 3], told
    assert told[1] == "number 7 cannot be read"
    assert told[0].startswith("process 0 of 2 lost another one")
