"""The program as a whole: help, version, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings

import pytest
import typer
from typer.testing import CliRunner

from storerec import __version__
from storerec.cli.ending import verb
from storerec.errors import DataError, StorerecWarning
from tests.cli.conftest import call, is_error

PROGRAM = [sys.executable, "-c", "from storerec.cli import main; main()"]
VERBS = (
    *("fit", "tokenize", "cluster", "train", "evaluate", "recommend", "inspect", "demo", "add-items", "remove-items"),
    "serve",
)


def test_help_names_every_verb_and_comes_at_once():
    started = time.perf_counter()
    done = subprocess.run([*PROGRAM, "--help"], capture_output=True, text=True, check=True)
    took = time.perf_counter() - started
    assert not [name for name in VERBS if f" {name} " not in done.stdout]
    assert took < 2  # 0.2 s on a quiet machine; torch alone takes longer than this bound


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_help(name):
    result = call(name, "--help")
    assert result.exit_code == 0
    assert f"storerec {name}" in result.output.replace("root", "storerec")


def test_version():
    assert call("--version").output == f"storerec {__version__}\n"


def test_an_unknown_verb_or_flag_ends_with_code_2():
    assert call("fitt").exit_code == 2
    assert call("fit", "--out", "x", "--iterms", "y").exit_code == 2


def ends(work, resumes=True):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(verb(resumes=resumes)(work))
    return CliRunner().invoke(app, [])


def test_our_errors_are_one_line_whatever_their_text():
    def work():
        raise DataError("items.csv:\n  nothing  in it")

    result = ends(work)
    assert (result.exit_code, result.stderr) == (2, "error: items.csv: nothing in it\n")


def test_bugs_keep_their_traceback():
    def work():
        raise ZeroDivisionError

    assert isinstance(ends(work).exception, ZeroDivisionError)


def test_faults_of_the_machine_are_one_line(tmp_path):
    def work():
        raise PermissionError(13, "Permission denied", str(tmp_path))

    assert ends(work).stderr == f"error: {tmp_path}: Permission denied\n"


def test_other_faults_of_files_are_bugs():
    def work():
        raise FileNotFoundError(2, "No such file", "x")

    assert isinstance(ends(work).exception, FileNotFoundError)


def test_our_warnings_are_one_line_each_and_others_stay_as_they_are():
    def work():
        for _ in range(2):
            warnings.warn("2 rows\nwere left out", StorerecWarning, stacklevel=1)
        warnings.warn("of a library", UserWarning, stacklevel=1)

    with pytest.warns(UserWarning, match="of a library"):
        result = ends(work)
    assert (result.exit_code, result.stderr) == (0, "warning: 2 rows were left out\n")


@pytest.mark.parametrize(("resumes", "words"), [(True, "go on with: storerec"), (False, "start again with")])
def test_an_interrupt_says_how_to_go_on(resumes, words):
    def work():
        signal.raise_signal(signal.SIGINT)

    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell it is ignored
    try:
        result = ends(work, resumes)
    finally:
        signal.signal(signal.SIGINT, usual)
    assert result.exit_code == 130
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_ctrl_c_while_training_keeps_the_run_and_says_how_to_go_on(shop):
    settings = json.loads(shop.config.read_text(encoding="utf-8"))
    settings["recommender"]["joint"] = {"max_steps": 1_000_000, "checkpoint_steps": 5, "patience": None}
    shop.write("config.json", json.dumps(settings))
    files = ["--items", shop.items, "--events", shop.events, "--config", shop.config, "--out", shop.run]
    program = subprocess.Popen(
        [*PROGRAM, "fit", *map(str, files)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        # a test run in the background of a shell ignores Ctrl-C, and so would the program
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        until = time.monotonic() + 120
        while not list(shop.run.glob("work/recommender/*/checkpoint-*")) and time.monotonic() < until:
            assert program.poll() is None, program.communicate()[1]
            time.sleep(0.1)
        program.send_signal(signal.SIGINT)
        error = program.communicate(timeout=60)[1]
    finally:
        program.kill()
    assert program.returncode == 130, error
    assert "Traceback" not in error
    assert error.splitlines()[-1].startswith("interrupted; what is done is kept, go on with: storerec fit --items")
    assert (shop.run / "stages" / "table.safetensors").is_file()
    assert list(shop.run.glob("work/recommender/*/checkpoint-*"))
    assert is_error(call("recommend", shop.run, "--history", "i1"), "not finished")


def test_a_bundle_recommends_without_what_only_training_needs(fitted):
    heavy = ("transformers", "peft", "accelerate", "sklearn", "scipy", "matplotlib")
    code = f"""
import sys
from storerec.pipeline import STORE
store = STORE.load({str(fitted.run)!r})
assert store.recommend(["i1", "i2"], 3)
print([name for name in {heavy} if name in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"  # they take most of five seconds to import
