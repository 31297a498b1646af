"""The Containerfile against the repository: no engine builds it here, so what it names must at least be there."""

import json
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import typer.main

from storerec.cli import app
from storerec.serving.guard import OPEN

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def instructions(name):
    """What follows each instruction of a name; continued lines are joined, comments left out."""
    lines = (ROOT / "Containerfile").read_text(encoding="utf-8").splitlines()
    whole = "\n".join(line for line in lines if not line.startswith("#")).replace("\\\n", " ")
    found = [line.split(maxsplit=1) for line in whole.splitlines() if line.strip()]
    return [" ".join(rest.split()) for instruction, rest in found if instruction == name]


def copied():
    return [source.removeprefix("./") for rest in instructions("COPY") for source in rest.split()[:-1]]


def command():
    (given,) = instructions("CMD")
    return json.loads(given)


def test_what_is_copied_is_there_and_not_ignored():
    assert copied()
    assert not [source for source in copied() if not (ROOT / source).exists()]
    for name in (".containerignore", ".dockerignore"):
        rules = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
        assert rules[0] == "*"
        assert set(copied()) == {rule[1:] for rule in rules if rule.startswith("!")}
        assert not [source for source in copied() if any(fnmatch(source, rule) for rule in rules[1:] if rule[0] != "!")]


def test_what_the_package_is_built_from_is_copied():
    wanted = [
        PROJECT["project"]["readme"],
        PROJECT["tool"]["hatch"]["version"]["path"],
        *PROJECT["project"]["license-files"],
    ]
    wanted += PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert not [one for one in wanted if not any(one == place or one.startswith(f"{place}/") for place in copied())]


def test_the_installation_is_pinned_and_its_extras_exist():
    installs = [run for run in instructions("RUN") if "pip install" in run]
    assert len(installs) == 2
    assert all("-c constraints.txt" in run for run in installs)
    extras = re.findall(r"\.\[([\w,]+)\]", " ".join(installs))
    assert extras == ["serve"]
    assert set(extras) <= PROJECT["project"]["optional-dependencies"].keys()
    (image,) = instructions("FROM")
    series = image.partition(":")[2].removesuffix("-slim")
    assert f"Programming Language :: Python :: {series}" in PROJECT["project"]["classifiers"]


def test_the_command_is_one_of_the_command_line():
    program, verb, *rest = command()
    assert program in PROJECT["project"]["scripts"]
    serve = typer.main.get_command(app).commands[verb]
    # parsed as the program does: an option that it lacks, or a value of another type, is an error
    given = serve.make_context(verb, list(rest)).params
    assert given["run"] == Path("/data")
    assert given["host"] == "0.0.0.0"
    assert str(given["port"]) in instructions("EXPOSE")
    assert "/data" in json.loads(instructions("VOLUME")[0])


def test_it_runs_as_nobody_special_and_stops_at_a_signal_it_knows():
    (user,) = instructions("USER")
    assert user not in ("root", "0")
    assert any(
        f"useradd --uid 10001 --create-home --shell /usr/sbin/nologin {user}" in run for run in instructions("RUN")
    )
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    cache = re.search(r"STOREREC_CACHE=(\S+)", " ".join(instructions("ENV")))[1]
    assert cache in json.loads(instructions("VOLUME")[0])


def test_the_health_check_asks_what_needs_no_key_and_fails_without_a_service():
    (check,) = instructions("HEALTHCHECK")
    program, *arguments = json.loads(check.partition("CMD ")[2])
    assert program == "python"
    port, path = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", arguments[1]).groups()
    assert port in instructions("EXPOSE")
    assert path in OPEN
    code = arguments[1].replace(f":{port}/", ":1/")  # nothing listens there
    assert subprocess.run([sys.executable, arguments[0], code], capture_output=True, check=False).returncode == 1
