"""storerec compare."""

import json

import pytest

from tests.cli.conftest import SETTINGS, call, events_csv, is_error, is_fine, items_csv

pytestmark = pytest.mark.filterwarnings("ignore::storerec.errors.StorerecWarning")


class Tables:
    """A folder of own tables, settings that train for two steps, and the verb to run on them."""

    def __init__(self, folder, backbone):
        self.folder, self.out, self.data = folder, folder / "out", folder / "shop"
        self.data.mkdir()
        (self.data / "items.csv").write_text(items_csv())
        (self.data / "events.csv").write_text(events_csv())
        self.config = folder / "tiny.json"
        values = {
            "store": SETTINGS | {"backbone": {"name": str(backbone)}},
            "sasrec": {"width": 8, "training": {"max_steps": 2}},
        }
        self.config.write_text(json.dumps(values))

    def __call__(self, *more, systems="markov,sasrec,store", data=None, config=None):
        files = ["--data", data or self.data, "--out", self.out, "--config", config or self.config]
        return call("compare", *files, "--systems", systems, "--jobs", "0", "--device", "cpu", *more)


def the_error(result):
    """The one error line of a run that had already told what it read, and then ended as user errors do."""
    assert result.exit_code == 2, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    assert "Traceback" not in result.stderr
    return errors[0]


@pytest.fixture
def tables(tmp_path, tiny_backbone):
    return Tables(tmp_path, tiny_backbone("llama"))


def test_a_table_is_shown_and_a_report_written_and_the_same_command_goes_on(tables, monkeypatch):
    monkeypatch.setattr("sys.argv", ["storerec", "compare", "--out", "here"])  # what the report quotes
    result = tables("--seeds", "1")
    assert is_fine(result)
    for word in ("markov", "sasrec", "store", "NDCG@10", "p against store"):
        assert word in result.stdout
    assert "3/3 store-seed1-rate1-lists: done" in result.stderr
    report = tables.out / "report"
    assert {"report.md", "report.html", "table.tex", "comparison.json"} <= {path.name for path in report.iterdir()}
    written = json.loads((report / "comparison.json").read_text())
    assert list(written["systems"]) == ["markov", "sasrec", "store"]
    assert written["settings"]["command"] == "storerec compare --out here"
    before = {path: path.stat().st_mtime_ns for path in tables.out.glob("stages/*/done.json")}
    again = tables("--seeds", "1")
    assert is_fine(again)
    assert "3/3 stand from an earlier call" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in tables.out.glob("stages/*/done.json")} == before


def test_choices_of_the_command_line_reach_the_comparison(tables):
    result = tables("--seeds", "5,6", "--rates", "0.5,1", "--exclude-history", systems="popularity,sasrec")
    assert is_fine(result)
    assert (
        "trials: 2, 2 settings (learning rate x 0.5, 1; dropout x 1) for each trained system, on seed 5"
        in result.stderr
    )
    written = json.loads((tables.out / "report" / "comparison.json").read_text())
    assert written["systems"]["sasrec"]["seeds"] == [5, 6]
    assert written["systems"]["popularity"]["seeds"] == [5]
    assert written["exclude_history"] is True
    assert written["settings"]["configuration"]["tuning"]["rates"] == [0.5, 1.0]


def test_mistakes_are_one_clear_line(tables, tmp_path):
    assert is_error(tables(systems="markov,stor"), "no system 'stor'", "store", "retrieval")
    for seeds in ("one", "1,x", "-1", ""):
        assert is_error(tables("--seeds", seeds), "--seeds")
    assert is_error(tables("--rates", "fast"), "--rates", "fast")
    assert is_error(tables("--rates", "0"), "tuning.rates")
    assert is_error(tables("--dropouts", "less"), "--dropouts", "less")
    assert is_error(tables(data=tmp_path / "none"), "no such folder", "mind:FOLDER")
    assert is_error(tables(data=f"mind:{tmp_path / 'none'}"), "no such folder", "msnews.github.io")
    assert is_error(tables("--preset", "imdb"), "no comparison preset 'imdb'", "movielens-100k")
    assert is_error(tables(config=tmp_path / "none.json"), "none.json: no such file")
    tables.config.write_text('{"store": {"search": {"beam": 0}}}')
    assert is_error(tables(), "tiny.json", "store.search.beam")
    assert not tables.out.exists()


def test_another_folders_files_are_left_alone(tables):
    tables.out.mkdir()
    (tables.out / "thesis.tex").touch()
    assert "no comparison's folder" in the_error(tables(systems="markov"))
    assert [path.name for path in tables.out.iterdir()] == ["thesis.tex"]
    (tables.out / "config.json").write_text('["a model of mine"]')
    assert "no comparison's folder" in the_error(tables(data=tables.folder / "none"))  # told before data are read


def test_what_no_system_can_be_made_of_is_one_line_too(tables):
    tables.config.write_text(json.dumps({"store": {"backbone": {"name": str(tables.folder / "no model")}}}))
    error = the_error(tables(systems="p5"))
    assert "every cell failed" in error
    assert "no model" in error
