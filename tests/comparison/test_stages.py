"""Stages: one folder per identity, made once, whatever dies in between."""

import json
import multiprocessing
import os
import signal
import time

import pytest

from storerec.comparison.stages import Stages


def note(folder, text="made"):
    with (folder / "log").open("a") as log:
        log.write(text + "\n")
    return {"figure": 7}


def lines(folder):
    return (folder / "log").read_text().splitlines()


def test_equal_identities_share_a_folder_and_others_do_not(tmp_path):
    stages = Stages(tmp_path / "stages")
    first = stages.ensure("codes", {"seed": 1, "settings": {"a": 1, "b": [2]}}, note)
    same = stages.ensure("codes", {"settings": {"b": [2], "a": 1}, "seed": 1}, note)
    assert same == first
    assert lines(first) == ["made"]
    others = [
        stages.ensure("codes", {"seed": 2, "settings": {"a": 1, "b": [2]}}, note),
        stages.ensure("codes", {"seed": 1, "settings": {"a": 1, "b": [3]}}, note),
        stages.ensure("model", {"seed": 1, "settings": {"a": 1, "b": [2]}}, note),
    ]
    assert len({first, *others}) == 4
    assert all(lines(folder) == ["made"] for folder in others)
    assert first.name.startswith("codes-")
    assert json.loads((first / "identity.json").read_text()) == {"seed": 1, "settings": {"a": 1, "b": [2]}}


def test_another_call_finds_what_is_done(tmp_path):
    folder = Stages(tmp_path).ensure("codes", {"seed": 1}, note)
    before = (folder / "done.json").stat().st_mtime_ns
    again = Stages(tmp_path)
    assert again.ensure("codes", {"seed": 1}, note) == folder
    assert lines(folder) == ["made"]
    assert (folder / "done.json").stat().st_mtime_ns == before
    facts = again.facts(folder)
    assert facts["figure"] == 7
    assert facts["resumed"] is False
    assert facts["seconds"] >= 0


def test_a_make_that_fails_leaves_no_result_and_is_made_again_in_its_folder(tmp_path):
    stages = Stages(tmp_path)

    def broken(folder):
        note(folder, "broken")
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        stages.ensure("model", {"seed": 1}, broken)
    folder = stages.folder("model", {"seed": 1})
    assert not stages.done(folder)
    assert stages.ensure("model", {"seed": 1}, note) == folder
    assert lines(folder) == ["broken", "made"]  # a make finds what the one before it left, such as checkpoints
    assert stages.facts(folder)["resumed"] is True


def test_identities_must_be_plain_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        Stages(tmp_path).folder("model", {"rate": float("nan")})


def _slow(root, started, release):
    def make(folder):
        note(folder)
        started.set()
        release.wait(30)

    Stages(root).ensure("model", {"seed": 1}, make)


def _quick(root):
    Stages(root).ensure("model", {"seed": 1}, lambda folder: note(folder, "made twice"))


@pytest.fixture
def spawn():
    context = multiprocessing.get_context("fork")
    made = []

    def start(target, *arguments):
        process = context.Process(target=target, args=arguments)
        process.start()
        made.append(process)
        return process

    yield start, context
    for process in made:
        process.kill()
        process.join()


def test_two_processes_that_want_one_stage_make_it_once(tmp_path, spawn):
    start, context = spawn
    started, release = context.Event(), context.Event()
    first = start(_slow, tmp_path, started, release)
    assert started.wait(30)
    second = start(_quick, tmp_path)
    time.sleep(0.2)
    assert second.is_alive(), "the second one waits"
    release.set()
    for process in (first, second):
        process.join(30)
        assert process.exitcode == 0
    assert lines(Stages(tmp_path).folder("model", {"seed": 1})) == ["made"]


def test_a_killed_process_holds_nobody_up(tmp_path, spawn):
    start, context = spawn
    started, release = context.Event(), context.Event()
    first = start(_slow, tmp_path, started, release)
    assert started.wait(30)
    second = start(_quick, tmp_path)
    os.kill(first.pid, signal.SIGKILL)
    second.join(30)
    assert second.exitcode == 0
    folder = Stages(tmp_path).folder("model", {"seed": 1})
    assert lines(folder) == ["made", "made twice"]
    assert Stages(tmp_path).facts(folder)["resumed"] is True
