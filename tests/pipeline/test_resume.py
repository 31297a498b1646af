import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

ROOT = Path(__file__).parents[2]


def start(folder, backbone):
    command = [sys.executable, "-m", "tests.pipeline.fit_once", str(folder), str(backbone)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(folder, backbone):
    process = start(folder, backbone)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output


def kill_at(folder, backbone, checkpoint):
    """Start a run and kill -9 it as soon as ``checkpoint`` (its trainer state, the last file written) is there."""
    process = start(folder, backbone)
    mark = folder / "work" / checkpoint / "trainer_state.json"
    deadline = time.monotonic() + 300
    while not mark.exists():
        assert process.poll() is None, f"ended before {checkpoint}: {process.stdout.read()}"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    return mark.parent


def results(folder):
    files = (folder / "stages").rglob("*.safetensors")
    return {file.relative_to(folder / "stages").as_posix(): load_file(file) for file in files}


@pytest.fixture(scope="module")
def unbroken(tiny_backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    finish(folder, tiny_backbone("llama"))
    return results(folder)


@pytest.mark.parametrize(
    "checkpoint",
    ["tokenizer/checkpoint-6", "recommender/joint/checkpoint-9", "recommender/alone/checkpoint-3"],
)
def test_a_killed_run_ends_like_an_unbroken_one(unbroken, tiny_backbone, tmp_path, checkpoint):
    folder = tmp_path / "run"
    assert kill_at(folder, tiny_backbone("llama"), checkpoint).exists()
    assert not (folder / "bundle").exists()
    finish(folder, tiny_backbone("llama"))
    again = results(folder)
    assert again.keys() == unbroken.keys()
    for name, arrays in unbroken.items():
        for key, array in arrays.items():
            assert np.array_equal(array, again[name][key]), f"{name}: {key}"
    assert (folder / "bundle" / "manifest.json").exists()


def test_seeds_matter_to_this_comparison(unbroken):
    """The comparison above would mean nothing if training left the weights as they start."""
    recommender = unbroken["recommender.safetensors"]
    moved = [array for name, array in recommender.items() if "lora_B" in name]
    assert moved
    assert all(np.abs(array).max() > 0 for array in moved)
