import shutil

import numpy as np
import pytest
import torch

from storerec.config import RunOptions
from storerec.data.histories import Histories
from storerec.data.splits import Cases, Split, leave_one_out
from storerec.errors import BundleError, ConfigError, DataError, TrainingError
from storerec.evaluation import EvaluationConfig, evaluate
from storerec.llm.progress import Progress
from storerec.llm.training import TrainingConfig
from storerec.systems import sasrec, sasrec_model
from storerec.systems.base import Exclusions
from storerec.systems.markov import Markov
from storerec.systems.popularity import Popularity
from storerec.systems.sasrec import SasRec, train_sasrec
from storerec.systems.sasrec_model import SasRecConfig, SasRecModel
from tests.systems.conformance import check_system

CPU, QUIET = RunOptions(device="cpu"), Progress(enabled=False)
SMALL = {"width": 8, "blocks": 2, "heads": 2, "max_history": 6, "batch_size": 8}


def make(*sequences):
    offsets = np.cumsum([0, *map(len, sequences)])
    items = np.array([i for s in sequences for i in s], dtype=np.int32)
    return Histories.from_arrays([f"u{u}" for u in range(len(sequences))], offsets, items)


def random_histories(users, n_items, seed, *, longest=12):
    rng = np.random.default_rng(seed)
    return make(*(rng.zipf(1.5, size=rng.integers(0, longest + 1)) % n_items for _ in range(users)))


def small(n_items=20, *, seed=0, scale=20.0, **settings):
    """An untrained model whose scores differ visibly between items and between histories."""
    model = SasRecModel(SasRecConfig(**SMALL | settings), n_items, seed=seed)
    with torch.no_grad():
        for parameter in (model.items, model.positions, model.start):
            parameter.mul_(scale)
    return model


def settings(**training):
    defaults = {"learning_rate": 5e-3, "epochs": 4, "schedule": "constant"}
    return SasRecConfig(**SMALL, training=TrainingConfig(**defaults | training))


def fit(split, n_items, config, folder, progress=QUIET, **options):
    return train_sasrec(split, n_items, config, folder, RunOptions(device="cpu", **options), progress)


@pytest.mark.parametrize("n_items", [5, 60])
@pytest.mark.parametrize("bias", [False, True])
def test_conformance(n_items, bias):
    check_system(SasRec(small(n_items, item_bias=bias)), random_histories(25, n_items, 1), n_items)


def test_conformance_trained_and_in_small_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(sasrec, "_CELLS", 500)
    model, _ = fit(leave_one_out(random_histories(60, 40, 0)), 40, settings(epochs=1), tmp_path)
    check_system(SasRec(model), random_histories(10, 40, 1), 40)


# --- a world where the next item is a function of the last two ---

ITEMS, COLD, KINDS = 12, 6, 3


def second_order_split(users=700, length=14):
    """Walks in which the last item chooses the permutation that the item before it goes through.

    Pairs of items then go to pairs one to one, so all pairs stay equally frequent, and either item alone says little.
    """
    rng = np.random.default_rng(5)
    permutations = np.stack([rng.permutation(ITEMS) for _ in range(KINDS)])
    walks = rng.integers(ITEMS, size=(users, length))
    for step in range(2, length):
        walks[:, step] = permutations[walks[:, step - 1] % KINDS, walks[:, step - 2]]
    cases = Cases(make(*walks[:, :-1]), walks[:, -1].astype(np.int32))
    held = np.arange(100)
    return Split("planted", make(*walks[200:]), cases.select(held), cases.select(held + 100))


PLANTED = TrainingConfig(learning_rate=5e-3, epochs=15, schedule="linear", checkpoint_steps=40)


def top_one(system, cases):
    return float((system.recommend(cases.histories, 1, exclude=Exclusions()).items[:, 0] == cases.targets).mean())


def test_it_approaches_the_ceiling_where_the_last_two_items_decide(tmp_path):
    split, n_items = second_order_split(), ITEMS + COLD
    config = SasRecConfig(width=32, dropout=0.0, max_history=8, batch_size=32, training=PLANTED)
    model, _ = fit(split, n_items, config, tmp_path)
    # the ceiling is 1; in first order every item follows every item
    ours, markov = top_one(SasRec(model), split.test), top_one(Markov.fit(split.train, n_items), split.test)
    assert ours > 0.9
    assert markov < 0.3
    assert top_one(Popularity.fit(split.train, n_items), split.test) < 0.3
    # items without training events are pushed below all others
    scores = SasRec(model).scores(split.test.histories)
    assert (scores[:, ITEMS:].max(axis=1) < np.median(scores[:, :ITEMS], axis=1)).mean() > 0.95
    lists = SasRec(model).recommend(split.test.histories, 5, exclude=Exclusions()).items
    assert (lists >= ITEMS).mean() < 0.01


# --- scores ---


def test_batch_and_single_user_agree_and_no_score_is_nan():
    system = SasRec(small())
    histories = random_histories(30, 20, 3)  # empty ones and longer than max_history among them
    assert histories.lengths.min() == 0
    assert histories.lengths.max() > 6
    together = system.scores(histories)
    assert np.isfinite(together).all()
    alone = np.concatenate([system.scores(histories.select(np.array([u]))) for u in range(30)])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.ptp(together, axis=0).min() > 0.1, "scores depend on the history"


def test_only_the_last_items_and_their_order_count():
    system = SasRec(small())
    recent = [3, 1, 4, 1, 5, 9]
    long, short, turned = system.scores(make([7, 7, 8, *recent], recent, [1, 3, 4, 1, 5, 9]))
    np.testing.assert_allclose(long, short, atol=1e-5)
    assert np.abs(turned - short).max() > 0.01


def test_what_stands_in_the_padding_changes_nothing():
    model = small().eval()
    items, lengths = torch.tensor([[3, 1, 0, 0], [2, 0, 0, 0]]), torch.tensor([2, 1])
    other = torch.tensor([[3, 1, 9, 9], [2, 8, 7, 6]])
    torch.testing.assert_close(model.last_scores(items, lengths), model.last_scores(other, lengths))
    assert model(items, lengths)["loss"] == model(other, lengths)["loss"]


def test_the_loss_by_hand_sees_no_item_ahead():
    """Each item given those before it, read one by one by the ranking side with its positions."""
    model = small().eval()
    window = [3, 1, 4, 1, 5]
    states = model.states(torch.tensor([window[:-1]]), torch.tensor([4]))
    logs = model.scores(states[0]).log_softmax(-1)
    loss = model(torch.tensor([window]), torch.tensor([5]))["loss"]
    torch.testing.assert_close(loss, -logs[torch.arange(5), torch.tensor(window)].mean())
    changed = model.states(torch.tensor([[3, 1, 9, 9]]), torch.tensor([4]))
    torch.testing.assert_close(states[:, :3], changed[:, :3])
    assert not torch.allclose(states[:, 3:], changed[:, 3:])


def test_the_loss_in_pieces_is_the_loss(monkeypatch):
    items, lengths = torch.randint(20, (5, 7)), torch.tensor([7, 2, 3, 7, 5])
    found = []
    for cells in (1 << 26, 100):
        monkeypatch.setattr(sasrec_model, "_LOGITS", cells)
        model = small(dropout=0.0)
        loss = model(items, lengths)["loss"]
        loss.backward()
        found.append([loss, *(p.grad for p in model.parameters())])
    torch.testing.assert_close(*found)


def test_ties_go_by_row():
    lists = SasRec(small(scale=0.0)).recommend(make([3], [0, 1]), 6, exclude=Exclusions(history=True))
    assert lists.items.tolist() == [[0, 1, 2, 4, 5, 6], [2, 3, 4, 5, 6, 7]]


# --- training ---


@pytest.mark.parametrize("excluding", [False, True])
def test_the_weights_of_the_best_validation_are_kept_and_their_figures_are_the_evaluations(tmp_path, excluding):
    split = leave_one_out(random_histories(80, 25, 2))
    config = settings(epochs=6).model_copy(update={"validation_excludes_history": excluding})
    model, log = fit(split, 25, config, tmp_path)
    name = "ndcg@10_excluding" if excluding else "ndcg@10"
    figures = [entry[f"eval_{name}"] for entry in log if f"eval_{name}" in entry]
    assert len(figures) == 6
    chosen = EvaluationConfig(ks=(10,), exclude_history=excluding, bootstrap_samples=10)
    found = evaluate([SasRec(model)], split.validation, split.train, table=None, config=chosen, seed=0, n_items=25)
    assert found.systems["sasrec"].item_level["ndcg@10"].value == pytest.approx(max(figures))


class KilledError(Exception):
    pass


class DiesAt(Progress):
    """A process that ends at a step."""

    def __init__(self, step):
        super().__init__(enabled=False)
        self.left = step

    def advance(self, bar, amount=1):
        self.left -= amount
        if self.left == 0:
            raise KilledError


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    split = leave_one_out(random_histories(40, 25, 2))
    model, log = fit(split, 25, settings(epochs=4), tmp_path_factory.mktemp("unbroken"))
    assert max(entry["step"] for entry in log) > 15
    return split, model, log


@pytest.mark.parametrize("step", [2, 13])  # before the first checkpoint, and between two
def test_a_resumed_training_ends_where_an_unbroken_one_does(tmp_path, unbroken, step):
    split, whole, log = unbroken
    with pytest.raises(KilledError):
        fit(split, 25, settings(epochs=4), tmp_path, DiesAt(step))
    resumed, resumed_log = fit(split, 25, settings(epochs=4), tmp_path)
    for name, weights in whole.state_dict().items():
        assert torch.equal(weights, resumed.state_dict()[name]), name
    assert [e for e in log if "eval_ndcg@10" in e] == [e for e in resumed_log if "eval_ndcg@10" in e]
    for checkpoint in tmp_path.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    again, again_log = fit(split, 25, settings(epochs=4), tmp_path)  # finished: read back, nothing is trained
    assert torch.equal(again.items, whole.items)
    assert again_log == resumed_log


def test_seeds_give_other_weights_and_one_seed_the_same(tmp_path):
    split = leave_one_out(random_histories(30, 25, 2))
    a, b, c = (fit(split, 25, settings(epochs=1), tmp_path / str(i), seed=s)[0] for i, s in enumerate((1, 1, 2)))
    assert torch.equal(a.items, b.items)
    assert not torch.allclose(a.items, c.items)


def test_without_validation_cases_it_trains_to_the_end(tmp_path):
    split = leave_one_out(random_histories(30, 25, 2))
    empty = split.validation.select(np.array([], dtype=np.int64))
    model, log = fit(Split("none", split.train, empty, split.test), 25, settings(epochs=2, patience=1), tmp_path)
    assert not any("eval_ndcg@10" in entry for entry in log)
    assert not torch.equal(model.items, SasRecModel(settings(), 25).items)


# --- files and bad input ---


def test_saved_and_loaded_ranks_alike(tmp_path):
    system, histories = SasRec(small(item_bias=True)), random_histories(10, 20, 4)
    system.save(tmp_path / "a")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["sasrec.json", "sasrec.safetensors"]
    loaded = SasRec.load(tmp_path / "a", CPU)
    np.testing.assert_array_equal(system.scores(histories), loaded.scores(histories))
    assert loaded.model.settings == system.model.settings


def test_a_damaged_folder_is_a_bundle_error(tmp_path):
    with pytest.raises(BundleError, match="no such file"):
        SasRec.load(tmp_path, CPU)
    for name, bad in (("sasrec.safetensors", b"half"), ("sasrec.json", b"{}")):
        SasRec(small()).save(tmp_path)
        (tmp_path / name).write_bytes(bad)
        with pytest.raises(BundleError, match="not a saved SASRec"):
            SasRec.load(tmp_path, CPU)
    SasRec(small(n_items=21)).save(tmp_path / "other")
    SasRec(small()).save(tmp_path)
    shutil.copy(tmp_path / "other" / "sasrec.safetensors", tmp_path)
    with pytest.raises(BundleError, match="not a saved SASRec"):
        SasRec.load(tmp_path, CPU)


def test_a_folder_of_other_settings_is_a_training_error(tmp_path):
    split = leave_one_out(random_histories(30, 25, 2))
    fit(split, 25, settings(epochs=1), tmp_path)
    with pytest.raises(TrainingError, match="other settings"):
        fit(split, 25, settings(epochs=2), tmp_path)
    with pytest.raises(TrainingError, match="other settings"):
        fit(split, 25, settings(epochs=1), tmp_path, seed=1)


def test_bad_input_is_told(tmp_path):
    split = leave_one_out(random_histories(30, 25, 2))
    with pytest.raises(DataError, match="but there are 5 items"):
        fit(split, 5, settings(), tmp_path)
    with pytest.raises(DataError, match="row 20"):
        SasRec(small()).recommend(make([20]), 3, exclude=Exclusions())
    with pytest.raises(DataError, match=r"0\.\.19"):
        SasRec(small()).recommend(make([1]), 3, exclude=Exclusions(items=np.array([20])))
    with pytest.raises(ConfigError, match="multiple of heads"):
        SasRecConfig.parse({"width": 10, "heads": 4})
