from types import SimpleNamespace

import pytest
import torch

from storerec.errors import BackboneError
from storerec.llm.adapters import LoraConfig, add_adapter
from storerec.llm.layers import depth, dropped_updates, first_layers, layer_list, linear_names

IDS = torch.tensor([[5, 9, 30, 2, 17], [40, 41, 3, 8, 60]])


def run(base):
    with torch.no_grad():
        return base(input_ids=IDS, use_cache=False).last_hidden_state


@pytest.mark.parametrize("count", [1, 2])
def test_first_layers_equal_a_model_with_the_others_removed(family, load_backbone, count):
    base, cut = load_backbone(family).base, load_backbone(family).base
    whole = run(base)
    part = first_layers(base, count)
    _, layers = layer_list(cut)
    del layers[count:]
    cut.config.num_hidden_layers = count
    torch.testing.assert_close(run(part), run(cut), rtol=0, atol=0)
    assert not torch.allclose(run(part), whole, atol=1e-2)
    torch.testing.assert_close(run(base), whole, rtol=0, atol=0)


def test_first_layers_share_weights_and_leave_the_original_untouched(family, load_backbone):
    base = load_backbone(family).base
    names = [name for name, _ in base.named_parameters()]
    part = first_layers(base, 2)
    assert depth(part) == part.config.num_hidden_layers == 2
    assert depth(base) == base.config.num_hidden_layers == 3
    assert [name for name, _ in base.named_parameters()] == names
    whole = dict(base.named_parameters())
    for name, parameter in part.named_parameters():
        assert parameter is whole[name], name
    with torch.no_grad():
        before = run(part)
        next(layer_list(base)[1][0].parameters()).add_(0.5)
    assert not torch.equal(run(part), before), "one set of weights"


def test_all_layers_are_the_model_itself(load_backbone):
    base = load_backbone().base
    assert first_layers(base, 3) is base
    assert first_layers(base, 99) is base


def test_a_cache_of_the_first_layers_is_as_deep_as_they_are(family, load_backbone):
    from transformers import DynamicCache

    part = first_layers(load_backbone(family).base, 2)
    cache = DynamicCache(config=part.config)
    with torch.no_grad():
        part(input_ids=IDS[:, :3], past_key_values=cache, use_cache=True)
        step = part(input_ids=IDS[:, 3:], past_key_values=cache, use_cache=True).last_hidden_state
    assert len(cache.layers) == 2
    torch.testing.assert_close(step, run(part)[:, 3:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("attention_only", [False, True])
def test_linear_names_do_not_change_when_adapters_are_added(family, load_backbone, attention_only):
    base = load_backbone(family).base
    before = linear_names(base, first=2, attention_only=attention_only)
    add_adapter(base, "one", LoraConfig(rank=2), layers=1)
    add_adapter(base, "two", LoraConfig(rank=2, targets="attention"), layers=3)
    assert sorted(linear_names(base, first=2, attention_only=attention_only)) == sorted(before)
    modules = dict(base.named_modules())
    assert all(name in modules for name in before)


def test_linear_names_by_place(family, load_backbone):
    base = load_backbone(family).base
    everything, attention = (linear_names(base, first=3, attention_only=only) for only in (False, True))
    assert set(attention) < set(everything)
    per_layer = {"opt": (6, 4), "llama": (7, 4), "qwen": (7, 4), "gpt2": (4, 2)}[family]
    assert (len(everything), len(attention)) == (3 * per_layer[0], 3 * per_layer[1])
    prefix, _ = layer_list(base)
    assert all(name.startswith(f"{prefix}.0.") for name in linear_names(base, first=1, attention_only=False))


def test_dropping_every_update_leaves_what_went_in(family, load_backbone):
    base, empty = load_backbone(family).base, load_backbone(family).base
    whole = run(base)
    last = ("out_proj.", "fc2.", "o_proj.", "down_proj.", "c_proj.")  # the maps whose outputs are added
    for name, parameter in empty.named_parameters():
        if any(part in name for part in last):
            parameter.data.zero_()
    with dropped_updates(base, 1.0):
        torch.testing.assert_close(run(base), run(empty), rtol=0, atol=0)
    with dropped_updates(base, 0.5):
        assert not torch.equal(run(base), run(base)), "drawn anew each time"
    with dropped_updates(base, 0.0):
        torch.testing.assert_close(run(base), whole, rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="inside"), dropped_updates(base, 0.5):
        raise RuntimeError("inside")
    torch.testing.assert_close(run(base), whole, rtol=0, atol=0)  # nothing stays behind


def test_layers_with_other_names_are_told_and_left_alone():
    base = torch.nn.Module()
    base.layers = torch.nn.ModuleList(torch.nn.Sequential(torch.nn.Linear(2, 2)) for _ in range(2))
    base.config = SimpleNamespace(num_hidden_layers=2)
    with pytest.raises(BackboneError, match="residual_dropout"), dropped_updates(base, 0.5):
        pass
    assert not any(module._forward_hooks for module in base.modules())
