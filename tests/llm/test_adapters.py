import copy
import warnings

import pytest
import torch

from storerec.llm.adapters import LoraConfig, activate, adapter_parameters, add_adapter, merge_into

IDS = torch.tensor([[5, 9, 30, 2, 17], [40, 41, 3, 8, 60]])


def run(base):
    with torch.no_grad():
        return base(input_ids=IDS, use_cache=False).last_hidden_state


def stir(base, name, scale=0.05):
    """Give an adapter an update that shows."""
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    with torch.no_grad():
        for parameter in adapter_parameters(base, name).values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)


@pytest.fixture
def two(family, load_backbone):
    base = load_backbone(family).base
    for name, rank in (("one", 4), ("two", 3)):
        add_adapter(base, name, LoraConfig(rank=rank))
        stir(base, name)
    return base


def test_a_new_adapter_changes_nothing_and_says_nothing(family, load_backbone):
    base = load_backbone(family).base
    plain = run(base)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        add_adapter(base, "one", LoraConfig(rank=4))
        add_adapter(base, "two", LoraConfig(rank=4))
    activate(base, ["one", "two"])
    torch.testing.assert_close(run(base), plain, rtol=0, atol=0)
    assert not any(p.requires_grad for p in base.parameters())


def test_activate_switches(two):
    runs = {}
    for names in ((), ("one",), ("two",), ("one", "two")):
        activate(two, names)
        runs[names] = run(two)
    keys = list(runs)
    for i, a in enumerate(keys):
        for b in keys[i + 1 :]:
            assert not torch.allclose(runs[a], runs[b], atol=1e-3), (a, b)
    activate(two, ("one",))
    torch.testing.assert_close(run(two), runs["one",], rtol=0, atol=0)


def test_updates_of_two_adapters_add_up(two):
    """At one linear map, where the update is linear: base + both = (base + one) + (base + two) - base."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layer = next(m for m in two.modules() if isinstance(m, BaseTunerLayer))
    width = layer.lora_A["one"].in_features
    x = torch.randn(5, width)
    out = {}
    for names in ((), ("one",), ("two",), ("one", "two")):
        activate(two, names)
        out[names] = layer(x).detach()
    torch.testing.assert_close(out["one", "two"] - out["one",], out["two",] - out[()], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("names", [("one",), ("one", "two"), ()])
def test_merging_equals_the_active_adapters(two, names):
    activate(two, names)
    active = run(two)
    merged = copy.deepcopy(two)
    merge_into(merged, names)
    torch.testing.assert_close(run(merged), active, rtol=1e-5, atol=1e-5)
    assert not any("lora" in name or "base_layer" in name for name, _ in merged.named_parameters())
    torch.testing.assert_close(run(two), active, rtol=0, atol=0)


def test_only_trained_adapters_get_gradients(two):
    activate(two, ["one", "two"], train=["two"])
    two(input_ids=IDS, use_cache=False).last_hidden_state.square().sum().backward()
    touched = {name for name, p in two.named_parameters() if p.grad is not None}
    assert touched == set(adapter_parameters(two, "two"))
    assert all(p.grad.abs().max() > 0 for p in adapter_parameters(two, "two").values())


def test_names_that_contain_each_other_are_told_apart(load_backbone):
    base = load_backbone().base
    add_adapter(base, "one", LoraConfig(rank=2))
    add_adapter(base, "one_more", LoraConfig(rank=2))
    assert not set(adapter_parameters(base, "one")) & set(adapter_parameters(base, "one_more"))


def test_an_adapter_on_the_first_layers_stands_there_only(family, load_backbone):
    base = load_backbone(family).base
    add_adapter(base, "all", LoraConfig(rank=2))
    add_adapter(base, "some", LoraConfig(rank=2), layers=1)
    everything, some = adapter_parameters(base, "all"), adapter_parameters(base, "some")
    assert len(everything) == 3 * len(some)
    activate(base, ["all", "some"])  # layers without "some" go on with "all" alone
    stir(base, "all")
    with_all = run(base)
    stir(base, "some")
    assert not torch.allclose(run(base), with_all, atol=1e-3)


def test_seed_fixes_an_adapter_and_leaves_the_callers_random_state(load_backbone):
    a, b, c = (load_backbone().base for _ in range(3))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    for base, seed in ((a, 5), (b, 5), (c, 6)):
        add_adapter(base, "one", LoraConfig(rank=2), seed=seed)
    assert torch.equal(torch.get_rng_state(), before)
    first, second, third = (list(adapter_parameters(x, "one").values()) for x in (a, b, c))
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))
    assert not all(torch.equal(x, y) for x, y in zip(first, third, strict=True))
