"""Residual codes: what they hold, what keeps them from collapsing, and what saving and batching must not change."""

import warnings

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sklearn.metrics import adjusted_rand_score

from storerec.codes import CodeTable
from storerec.codes import rqvae as module
from storerec.codes.rqvae import RqVae, RqVaeConfig
from storerec.codes.rqvae_uniform import Transport, spread
from storerec.errors import ConfigError, DataError, StorerecWarning
from storerec.storage import save_arrays

CONFIG = RqVaeConfig(
    levels=3, codes=8, latent=6, hidden=(24,), batch_size=64, epochs=40, learning_rate=3e-3, revive_steps=10
)


def two_layers(n=320, width=16, coarse=8, fine=8, noise=0.02, seed=0):
    """Items near ``coarse`` centres, each around one of ``fine`` offsets: what two levels can tell exactly."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, coarse, n), rng.integers(0, fine, n)
    x = 3 * rng.normal(size=(coarse, width))[a] + 0.7 * rng.normal(size=(fine, width))[b]
    return (x + noise * rng.normal(size=(n, width))).astype(np.float32), a


@pytest.fixture(scope="module")
def fitted():
    x, coarse = two_layers()
    return RqVae.fit(x, CONFIG, seed=1), x, coarse


def test_codes_have_the_shape_and_the_figures_that_k_means_codes_have(fitted):
    model, x, _ = fitted
    codes = model.assign(x)
    assert codes.shape == (320, 3)
    assert codes.dtype == np.int32
    report = CodeTable.build(codes, model.sizes).report()
    assert [p.size for p in report.positions] == [8, 8, 8] == list(model.sizes)
    assert [p.used for p in report.positions] == [len(np.unique(column)) for column in codes.T]
    assert all(p.perplexity > 4 for p in report.positions)
    shared = np.unique(codes, axis=0, return_counts=True)[1]
    assert report.colliding_share == pytest.approx(shared[shared > 1].sum() / 320)


def test_the_first_level_finds_the_coarse_groups(fitted):
    model, x, coarse = fitted
    assert adjusted_rand_score(coarse, model.assign(x)[:, 0]) > 0.8


def test_the_reconstruction_error_falls_and_codes_can_be_read_back(fitted):
    model, x, _ = fitted
    assert len(model.history) == 40
    assert model.history[-1] < 0.35 * model.history[0]
    back = model.reconstruct(model.assign(x))
    error = ((back - x) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()
    assert error < 0.3
    shuffled = model.reconstruct(np.random.default_rng(0).permutation(model.assign(x)))
    assert ((shuffled - x) ** 2).sum() > 3 * ((back - x) ** 2).sum()


def test_every_level_takes_the_nearest_code_of_what_is_left(fitted):
    model, x, _ = fitted
    distances, codes = model.distances(x), model.assign(x)
    assert distances.shape == (320, 3, 8)
    assert distances.dtype == np.float32
    np.testing.assert_array_equal(distances.argmin(2), codes)
    state = model.arrays()
    latent = np.asarray((x - state["mean"]) / state["scale"], np.float64)
    latent = np.maximum(latent @ state["encoder.0.weight"].T + state["encoder.0.bias"], 0)
    left = latent @ state["encoder.2.weight"].T + state["encoder.2.bias"]
    for level in range(3):
        book = state["codebooks"][level].astype(np.float64)
        expected = ((left[:, None] - book) ** 2).sum(2)
        np.testing.assert_allclose(distances[:, level], expected, rtol=1e-4, atol=1e-4)
        left = left - book[codes[:, level]]


def test_distances_serve_the_policy_that_makes_tuples_unique():
    x, _ = two_layers(n=200)
    model = RqVae.fit(x, CONFIG, seed=0)
    table = CodeTable.build(model.assign(x), model.sizes, policy="reassign", distances=model.distances(x))
    assert table.report().colliding_share == 0.0


def test_same_seed_same_codes_another_seed_others(fitted):
    model, x, _ = fitted
    torch.manual_seed(99)  # the global generator plays no part
    again = RqVae.fit(x, CONFIG, seed=1)
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(array, again.arrays()[name])
    assert not np.array_equal(model.assign(x), RqVae.fit(x, CONFIG, seed=2).assign(x))


@pytest.mark.parametrize("uniform", [False, True])
def test_saved_and_read_back_it_gives_the_same_codes(uniform, tmp_path):
    x, _ = two_layers(n=120)
    model = RqVae.fit(x, CONFIG.model_copy(update={"uniform_last": uniform, "epochs": 5}), seed=0)
    assert all(array.dtype == np.float32 for array in model.arrays().values())
    save_arrays(tmp_path / "rqvae.safetensors", model.arrays())
    back = RqVae.from_arrays(load_file(tmp_path / "rqvae.safetensors"))
    for name in ("assign", "assign_all", "distances"):
        np.testing.assert_array_equal(getattr(model, name)(x), getattr(back, name)(x))
    assert back.history == pytest.approx(model.history)
    assert back.sizes == model.sizes


def test_a_vectors_codes_depend_on_it_alone(fitted, monkeypatch):
    model, x, _ = fitted
    whole, distances = model.assign(x), model.distances(x)
    monkeypatch.setattr(module, "_CHUNK_VALUES", 24 * 7)
    np.testing.assert_array_equal(model.assign(x), whole)
    np.testing.assert_allclose(model.distances(x), distances, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(model.assign(x[11:12]), whole[11:12])
    np.testing.assert_array_equal(model.assign(x[::-1]), whole[::-1])


def used(model, x):
    return [len(np.unique(column)) for column in model.assign(x).T]


BARE = {"codes": 64, "epochs": 30, "learning_rate": 1e-3, "kmeans_start": False, "revive": False}


def test_without_revival_most_codes_die_and_with_it_all_live():
    x, _ = two_layers(n=640, noise=0.5)
    with pytest.warns(StorerecWarning, match="level 0 uses .* of its 64 codes"):
        dead = RqVae.fit(x, CONFIG.model_copy(update=BARE), seed=0)
    revived = RqVae.fit(x, CONFIG.model_copy(update=BARE | {"revive": True}), seed=0)
    assert used(dead, x)[0] < 16
    assert min(used(revived, x)) > 56
    assert revived.history[-1] < 0.7 * dead.history[-1]

    def share(model):
        return CodeTable.build(model.assign(x), model.sizes).report().colliding_share

    assert share(revived) < 0.5 * share(dead)


def test_k_means_start_puts_all_codes_where_items_are():
    x, _ = two_layers(n=640, noise=0.5)
    short = BARE | {"epochs": 1, "max_steps": 1, "learning_rate": 1e-6}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StorerecWarning)
        without = RqVae.fit(x, CONFIG.model_copy(update=short), seed=0)
    started = RqVae.fit(x, CONFIG.model_copy(update=short | {"kmeans_start": True}), seed=0)
    assert min(used(started, x)) > 60 > 30 > used(without, x)[0]


def test_uniform_last_level_lowers_the_share_of_colliding_items():
    x, _ = two_layers(n=320)
    config = CONFIG.model_copy(update={"codes": 16, "epochs": 20})
    plain = RqVae.fit(x, config, seed=0)
    uniform = RqVae.fit(x, config.model_copy(update={"uniform_last": True}), seed=0)

    def report(model, codes):
        return CodeTable.build(codes, model.sizes).report()

    nearest, spread_out = (report(uniform, codes) for codes in (uniform.assign(x), uniform.assign_all(x)))
    assert spread_out.colliding_share < 0.5 * report(plain, plain.assign(x)).colliding_share
    assert spread_out.colliding_share < nearest.colliding_share
    # prefixes stay, and who was alone stays
    np.testing.assert_array_equal(uniform.assign(x)[:, :-1], uniform.assign_all(x)[:, :-1])
    np.testing.assert_array_equal(plain.assign(x), plain.assign_all(x))


def test_equal_items_are_told_apart_where_there_is_room():
    x = np.repeat(two_layers(n=40)[0], 4, axis=0)
    model = RqVae.fit(x, CONFIG.model_copy(update={"uniform_last": True}), seed=0)
    codes = model.assign_all(x)
    items = np.unique(codes[:, :-1], axis=0, return_counts=True)[1]  # items of each prefix
    tuples = len(np.unique(codes, axis=0))
    assert tuples == np.minimum(items, 8).sum()
    assert tuples > 2 * len(np.unique(model.assign(x), axis=0))


def test_spread_moves_only_colliding_items_and_fills_evenly():
    transport = Transport(0.003, 50)
    rng = np.random.default_rng(0)
    codes = np.array([[0, 2], [0, 2], [0, 2], [0, 1], [1, 2], *[[2, 0]] * 10])
    last = rng.random((15, 4))
    out = spread(codes, last, transport)
    np.testing.assert_array_equal(out[3:5], codes[3:5])
    assert len({*out[:4, 1]}) == 4
    assert sorted(np.bincount(out[5:, 1], minlength=4)) == [2, 2, 3, 3]


def test_a_plan_gives_items_and_codes_their_shares_and_prefers_what_is_near():
    rng = np.random.default_rng(0)
    distances = torch.from_numpy(rng.random((40, 5)) * 1e4)  # whatever their scale
    plan = Transport(0.05, 500).plan(distances)
    np.testing.assert_allclose(plan.sum(1), np.ones(40), rtol=1e-6)
    np.testing.assert_allclose(plan.sum(0), np.full(5, 8.0), rtol=1e-6)
    assert (plan * distances).sum() < distances.mean(1).sum()
    hard = Transport(0.003, 50).plan(torch.tensor([[0.0, 1.0]] * 6))  # all want the first code
    assert torch.isfinite(hard).all()
    np.testing.assert_allclose(hard.sum(0), [3.0, 3.0], rtol=1e-6)


def test_means_of_codes_add_up_to_the_items(fitted):
    model, x, _ = fitted
    codes = model.assign(x)
    means = model.cluster_means(x, codes)
    assert [m.shape for m in means] == [(8, 16)] * 3
    np.testing.assert_allclose(means[0][codes[0, 0]], x[codes[:, 0] == codes[0, 0]].mean(0), atol=1e-5)
    total = sum(mean[column] for mean, column in zip(means, codes.T, strict=True))
    first = ((means[0][codes[:, 0]] - x) ** 2).sum()
    assert ((total - x) ** 2).sum() < 0.7 * first


def test_fewer_items_than_codes_get_fewer_codes():
    x, _ = two_layers(n=5)
    with pytest.warns(StorerecWarning, match="8 codes asked for, but there are 5 items"):
        model = RqVae.fit(x, CONFIG, seed=0)
    assert model.sizes == (5, 5, 5)
    assert len(np.unique(model.assign(x), axis=0)) > 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StorerecWarning)
        alone = RqVae.fit(x[:1], CONFIG, seed=0)
    np.testing.assert_array_equal(alone.assign(x[:1]), [[0, 0, 0]])


def test_a_dimension_that_does_not_vary_does_no_harm():
    x, _ = two_layers(n=100)
    x[:, 3], x[:, 4] = 1e4, 0.0
    model = RqVae.fit(x, CONFIG.model_copy(update={"epochs": 80}), seed=0)
    assert model.history[-1] < 0.6 * model.history[0]
    np.testing.assert_allclose(model.arrays()["scale"][[3, 4]], 1.0)


def test_standardising_hears_the_small_dimensions():
    x, _ = two_layers(n=200)
    x[:, 0] = 1e3 * np.random.default_rng(3).normal(size=200)
    error = {}
    for standardise in (True, False):
        model = RqVae.fit(x, CONFIG.model_copy(update={"standardise": standardise}), seed=0)
        back = model.reconstruct(model.assign(x))[:, 1:]
        error[standardise] = ((back - x[:, 1:]) ** 2).sum() / ((x[:, 1:] - x[:, 1:].mean(0)) ** 2).sum()
    assert error[True] < 0.5 < error[False]


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros((3, 2, 4), np.float32), r"floats \(items, width\), got \(3, 2, 4\)"),
        (np.zeros((0, 4), np.float32), r"got \(0, 4\)"),
        (np.zeros((3, 4), np.int32), "int32"),
        (np.array([[0.0, 1.0], [np.nan, 1.0]], np.float32), "item row 1: .* not finite"),
    ],
)
def test_bad_vectors_are_refused(vectors, message):
    with pytest.raises(DataError, match=message):
        RqVae.fit(vectors, CONFIG, seed=0)


def test_bad_use_is_refused(fitted):
    model, x, _ = fitted
    with pytest.raises(DataError, match=r"expects \(items, 16\)"):
        model.assign(x[:, :7])
    with pytest.raises(DataError, match=r"outside 0\.\.7"):
        model.reconstruct(np.full((2, 3), 8))
    with pytest.raises(DataError, match=r"integers \(items, 3\)"):
        model.reconstruct(np.zeros((2, 2), np.int32))
    state = model.arrays()
    with pytest.raises(DataError, match=r"lacks the array 'encoder\.2\.bias'"):
        RqVae.from_arrays({name: array for name, array in state.items() if name != "encoder.2.bias"})
    with pytest.raises(DataError, match="do not fit together"):
        RqVae.from_arrays(state | {"decoder.0.weight": np.zeros((3, 3), np.float32)})
    with pytest.raises(ConfigError, match="hidden"):
        RqVaeConfig.parse({"hidden": [0]})
