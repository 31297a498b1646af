import io
import json

import numpy as np
import pytest
from rich.console import Console

from storerec.codes import CodeTable
from storerec.data.histories import Histories
from storerec.data.splits import Cases, leave_one_out
from storerec.errors import ConfigError, DataError
from storerec.evaluation import Evaluation, EvaluationConfig, evaluate
from storerec.systems.base import Exclusions, RankedLists
from storerec.systems.markov import Markov
from storerec.systems.popularity import Popularity

N = 40
CONFIG = EvaluationConfig(bootstrap_samples=200, batch_size=7)


def make(sequences):
    offsets = np.cumsum([0, *map(len, sequences)])
    items = np.array([i for s in sequences for i in s], dtype=np.int32)
    return Histories.from_arrays([f"u{u}" for u in range(len(sequences))], offsets, items)


@pytest.fixture(scope="module")
def world():
    """A noisy cycle through the items, so that the last item says much of the next; from 30 rare."""
    rng = np.random.default_rng(0)
    sequences = []
    for _ in range(120):
        s = [int(rng.integers(30))]
        for _ in range(rng.integers(3, 12)):
            s.append((s[-1] + 1) % 30 if rng.random() < 0.7 else int(rng.integers(N)))
        sequences.append(s)
    split = leave_one_out(make(sequences))
    codes = np.stack([np.arange(N) % 4, np.arange(N) // 4 % 5], axis=1)  # two items on each tuple
    return split.train, split.test, CodeTable.build(codes, (4, 5))


@pytest.fixture(scope="module")
def evaluation(world):
    train, cases, table = world
    systems = [Popularity.fit(train, N), Markov.fit(train, N)]
    return evaluate(systems, cases, train, table=table, config=CONFIG, seed=3, protocol="leave_one_out")


def test_values_are_means_and_lie_in_their_intervals(world, evaluation):
    train, cases, _ = world
    items = Markov.fit(train, N).recommend(cases.histories, 10, exclude=Exclusions()).items
    share = np.mean([t in row for t, row in zip(cases.targets, items, strict=True)])
    found = evaluation.system("markov")
    assert found.item_level["recall@10"].value == pytest.approx(share)
    assert found.coverage["coverage@10"] == len(np.unique(items)) / N
    for metric, interval in found.item_level.items():
        assert interval.low <= interval.value <= interval.high
        assert found.tuple_level[metric].value >= interval.value
    assert found.seconds > 0
    assert evaluation.users == len(cases) == 120


def test_markov_beats_popularity_clearly(evaluation):
    assert evaluation.reference == "popularity"
    difference = evaluation.differences["markov"]["recall@10"]
    a, b = (evaluation.system(n).item_level["recall@10"].value for n in ("popularity", "markov"))
    assert difference.value == pytest.approx(a - b)
    assert difference.high < 0


def test_slices_hold_all_users_and_average_to_the_whole(evaluation):
    for result in evaluation.systems.values():
        assert sum(part.n for part in result.slices.values()) == evaluation.users
        total = sum(part.n * part.item["recall@5"].value for part in result.slices.values() if part.n)
        assert total / evaluation.users == pytest.approx(result.item_level["recall@5"].value)


def test_json_shape_and_round_trip(evaluation):
    values = json.loads(json.dumps(evaluation.to_json()))
    markov = values["systems"]["markov"]
    assert set(markov["item"]["recall@10"]) == {"value", "low", "high"}
    assert {"item", "tuple", "slices", "coverage@10", "seconds"} <= set(markov)
    assert values["users"] == 120
    assert values["seed"] == 3
    assert values["protocol"] == "leave_one_out"
    assert values["exclude_history"] is False
    assert values["ranking"] == "full"
    assert Evaluation.from_json(values) == evaluation
    with pytest.raises(ConfigError):
        Evaluation.from_json({})


def test_batches_change_nothing_and_seed_moves_only_intervals(world, evaluation):
    train, cases, table = world
    systems = [Popularity.fit(train, N), Markov.fit(train, N)]
    options = {"table": table, "config": CONFIG.model_copy(update={"batch_size": 1000})}
    again = evaluate(systems, cases, train, seed=3, protocol="leave_one_out", **options)
    other = evaluate(systems, cases, train, seed=4, protocol="leave_one_out", **options)
    for name in ("popularity", "markov"):
        assert again.system(name).item_level == evaluation.system(name).item_level
        assert again.system(name).slices == evaluation.system(name).slices
        a, b = other.system(name).item_level["ndcg@20"], evaluation.system(name).item_level["ndcg@20"]
        assert a.value == b.value
        assert a != b


def test_excluding_histories_makes_repeated_targets_misses(world):
    train, _, _ = world
    cases = Cases(make([[0, 1], [2, 3]]), np.array([1, 4], dtype=np.int32))
    config = EvaluationConfig(ks=(N,), exclude_history=True, bootstrap_samples=10, mrr=True)
    found = evaluate([Popularity.fit(train, N)], cases, train, table=None, config=config, seed=0, n_items=N)
    assert found.targets_in_history == 1
    result = found.system("popularity")
    assert result.item_level[f"recall@{N}"].value == 0.5
    assert f"mrr@{N}" in result.item_level
    assert result.tuple_level is None
    assert "tuple" not in result.to_json()
    assert found.differences == {}
    empty = [part for part in result.slices.values() if part.n == 0]
    assert empty
    assert all(part.item is None for part in empty)
    assert Evaluation.from_json(found.to_json()) == found


def test_tables_state_what_they_rest_on(evaluation):
    console = Console(file=io.StringIO(), width=250)
    console.print(evaluation.table(), *evaluation.tables())
    text = " ".join(console.file.getvalue().split())  # captions are wrapped
    value = evaluation.system("markov").item_level["recall@10"]
    assert f"{value.value:.4f} [{value.low:.4f}, {value.high:.4f}]" in text
    for needed in (
        "full ranking of 40 items",
        "n = 120 users",
        "seed 3",
        "history items not excluded",
        "tuple level",
        "never (n=",
        "popularity - markov",
    ):
        assert needed in text


def test_bad_input_is_a_data_error(world):
    train, cases, table = world
    popularity = Popularity.fit(train, N)

    class Short:
        name = "short"

        def recommend(self, histories, k, *, exclude):
            return RankedLists(np.zeros((len(histories), 1), np.int32), np.zeros((len(histories), 1), np.float32))

    small = CodeTable.build(table.codes[:5], table.sizes)
    none = Cases(cases.histories.select(np.array([], dtype=int)), cases.targets[:0])
    for systems, given, codes, match in [
        ([], cases, table, "distinct"),
        ([popularity, popularity], cases, table, "distinct"),
        ([Short()], cases, table, "short"),
        ([popularity], cases, small, "5"),
        ([popularity], none, table, "one case"),
    ]:
        with pytest.raises(DataError, match=match):
            evaluate(systems, given, train, table=codes, config=CONFIG, seed=0)


def test_config_sorts_and_checks_cut_offs():
    assert EvaluationConfig(ks=(10, 1, 10)).ks == (1, 10)
    for bad in ({"ks": ()}, {"ks": (0,)}, {"confidence": 1.0}):
        with pytest.raises(ConfigError):
            EvaluationConfig.parse(bad)
