"""Which tasks a comparison plans, and what becomes of them."""

import json

import pytest

from storerec.comparison import ComparisonConfig, resolve
from storerec.comparison.bench import Bench
from storerec.comparison.config import TuningConfig
from storerec.comparison.grid import Outcome, best_trials, cells, failed_cells, run_tasks, trials
from storerec.comparison.models import KINDS
from storerec.comparison.stages import Stages
from storerec.comparison.trial import Trial
from storerec.comparison.work import CellTask, Work
from storerec.config import RunOptions
from storerec.errors import ConfigError, DataError
from storerec.systems.registry import RECIPES, RETRIEVAL
from tests import worlds

OPTIONS = RunOptions(device="cpu", dtype="float32", progress=False)


def names(tasks):
    return [(task.system, task.seed, task.trial.rate) for task in tasks]


def by_rate(*rates):
    return tuple(Trial(rate=rate) for rate in rates)


def tried(system, rate, figure):
    task = CellTask(recipe=RECIPES[system], seed=1, trial=Trial(rate=rate), what="trial")
    return task.name, Outcome(task, {"validation": {"ndcg@10": figure} if figure is not None else None}, None)


def test_names_and_groups_are_resolved_in_the_order_of_tables():
    assert [r.name for r in resolve(["store", "markov", "store"])] == ["markov", "store"]
    assert tuple(r.name for r in resolve(["retrieval"])) == RETRIEVAL
    assert next(r.name for r in resolve(["ablations"])) == "store"
    assert [r.name for r in resolve(["all"])] == list(RECIPES)
    with pytest.raises(ConfigError, match="no system 'stor'; there are: popularity, markov"):
        resolve(["stor"])


def test_trials_are_of_trained_systems_of_the_tables_on_one_seed():
    recipes = resolve(["markov", "sasrec", "store", "store-soft"])
    planned = trials(recipes, 7, by_rate(0.5, 1.0))
    assert names(planned) == [("sasrec", 7, 0.5), ("sasrec", 7, 1.0), ("store", 7, 0.5), ("store", 7, 1.0)]
    assert {task.what for task in planned} == {"trial"}
    assert trials(recipes, 7, by_rate(1.0)) == [], "one choice is no tuning"


def test_every_rate_is_tried_with_every_dropout():
    options = TuningConfig(rates=(0.5, 1.0), dropouts=(0.0, 1.0)).trials
    planned = trials(resolve(["sasrec"]), 1, options)
    assert [task.name for task in planned] == [
        "sasrec-seed1-rate0.5-dropout0-trial",
        "sasrec-seed1-rate0.5-trial",
        "sasrec-seed1-rate1-dropout0-trial",
        "sasrec-seed1-rate1-trial",
    ]


def test_a_trial_changes_rates_and_dropouts_of_each_kind_of_model(work):
    bench = Bench(Stages(work.folder), None, None, work.config, OPTIONS, None, "data")
    trial, plain = Trial(rate=3.0, dropout=0.5), Trial()
    for kind, recipe, fields in (
        (KINDS["llm"], RECIPES["store"], ("dropout", "residual_dropout")),
        (KINDS["transformer"], RECIPES["tiger"], ("dropout",)),
        (KINDS["sasrec"], RECIPES["sasrec"], ("dropout",)),
    ):
        # the language model's recipe decides on its configuration, the others' kind is all
        arguments = (bench, recipe) if recipe.model == "llm" else (bench,)
        own, changed = kind.config(*arguments, plain), kind.config(*arguments, trial)
        phases = ("joint", "alone") if recipe.model == "llm" else ("training",)
        for phase in phases:
            assert getattr(changed, phase).learning_rate == pytest.approx(3 * getattr(own, phase).learning_rate)
        for field in fields:
            assert getattr(changed, field) == pytest.approx(getattr(own, field) / 2)
    assert KINDS["sasrec"].config(bench, Trial(dropout=9.0)).dropout < 1


def test_every_trained_system_gets_as_many_trials():
    counts = {}
    for task in trials(resolve(["all"]), 1, by_rate(0.3, 1.0, 3.0)):
        counts[task.system] = counts.get(task.system, 0) + 1
    assert set(counts) == {"sasrec", "p5", "tiger", "tiger-llm", "lc-rec", "store"}
    assert set(counts.values()) == {3}


def test_the_best_trial_is_that_of_the_best_validation_and_ablations_take_stores():
    recipes = resolve(["markov", "sasrec", "tiger", "store", "store-soft"])
    outcomes = dict(
        [
            tried("sasrec", 0.5, 0.3),
            tried("sasrec", 1.0, 0.2),
            tried("store", 0.5, 0.1),
            tried("store", 2.0, 0.4),
            tried("tiger", 0.5, None),
        ]
    )
    failed = CellTask(recipe=RECIPES["store"], seed=1, what="trial")
    outcomes[failed.name] = Outcome(failed, None, "it diverged")
    found = best_trials(recipes, by_rate(0.5, 1.0, 2.0), outcomes)
    assert {name: trial.rate for name, trial in found.items()} == {
        "markov": 1.0,
        "sasrec": 0.5,
        "tiger": 1.0,
        "store": 2.0,
        "store-soft": 2.0,
    }
    assert best_trials(resolve(["store-soft"]), by_rate(0.5, 2.0), {}) == {"store-soft": Trial(rate=0.5)}


def test_cells_are_of_every_seed_but_untrained_systems_of_the_first_and_ablations_come_last():
    recipes = resolve(["popularity", "markov", "sasrec", "store", "store-soft"])
    chosen = {recipe.name: Trial() for recipe in recipes} | {"sasrec": Trial(rate=0.5)}
    planned = cells(recipes, (3, 1), chosen)
    assert names(planned) == [
        ("popularity", 3, 1.0),
        ("markov", 3, 1.0),
        ("sasrec", 3, 0.5),
        ("store", 3, 1.0),
        ("sasrec", 1, 0.5),
        ("store", 1, 1.0),
        ("store-soft", 3, 1.0),
        ("store-soft", 1, 1.0),
    ]
    assert len({task.name for task in planned}) == len(planned)


@pytest.fixture
def work(tmp_path):
    catalogue, histories = worlds.data()
    config = ComparisonConfig.parse({"store": {"backbone": {"name": str(tmp_path / "no model")}}})
    return Work.create(tmp_path / "out", catalogue, histories, config, OPTIONS, 1)


@pytest.mark.parametrize("jobs", [0, 2])
def test_a_failed_task_is_told_in_a_line_and_stops_no_other(work, jobs):
    said = []
    planned = cells(resolve(["popularity", "p5"]), (1,), {"popularity": Trial(), "p5": Trial()})
    outcomes = run_tasks(work, planned, jobs, said.append)
    failures = failed_cells(outcomes.values())
    assert list(failures) == ["p5, seed 1"]
    assert "no model" in failures["p5, seed 1"]
    assert "\n" not in failures["p5, seed 1"]
    assert len([line for line in said if "FAILED" in line]) == 1
    good = [outcome for outcome in outcomes.values() if outcome.facts]
    assert {outcome.task.system for outcome in good} == {"popularity"}
    # a second call takes the good ones as they stand, and tries the other anew
    said.clear()
    again = run_tasks(work, planned, 0, said.append)
    assert said[0] == "  1/2 stand from an earlier call"
    assert failed_cells(again.values()) == failures
    for outcome in good:
        assert again[outcome.task.name].facts == outcome.facts


def test_a_process_that_leaves_no_result_names_its_log(work):
    planned = cells(resolve(["popularity"]), (1,), {"popularity": Trial()})
    (work.folder / "data" / "items.parquet").write_bytes(b"half")  # the process cannot even begin
    found = run_tasks(work, planned, 1, lambda line: None)[planned[0].name]
    assert found.facts is None
    assert found.error
    assert "\n" not in found.error


def test_results_of_other_settings_do_not_count(work):
    planned = cells(resolve(["popularity"]), (1,), {"popularity": Trial()})
    run_tasks(work, planned, 0, lambda line: None)
    changed = json.loads((work.folder / "config.json").read_text())
    changed["config"]["store"]["evaluation"]["exclude_history"] = True
    (work.folder / "config.json").write_text(json.dumps(changed))
    said = []
    run_tasks(Work.open(work.folder), planned, 0, said.append)
    assert said[0].startswith("  1/1 popularity")
    assert len(list((work.folder / "stages").glob("lists-*/done.json"))) == 2


def test_a_folder_of_other_data_or_of_something_else_is_an_error(work, tmp_path):
    catalogue, histories = worlds.data(users=31)
    with pytest.raises(ConfigError, match="other data"):
        Work.create(work.folder, catalogue, histories, work.config, OPTIONS, None)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="no comparison's folder"):
        Work.create(tmp_path / "mine", catalogue, histories, work.config, OPTIONS, None)
    with pytest.raises(DataError, match="storerec compare"):
        Work.open(tmp_path / "mine")
