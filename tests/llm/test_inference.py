import numpy as np
import pytest
import torch

from storerec.errors import ConfigError
from storerec.llm.adapters import LoraConfig, adapter_parameters, add_adapter
from storerec.llm.fused import FusedLayers
from storerec.llm.inference import Opening, PlainLayers, inference_layers
from storerec.llm.packed import Int8Map


@pytest.fixture
def adapted(load_backbone):
    """A backbone with two adapters that change its outputs."""

    def get(family, dtype="float64"):
        backbone = load_backbone(family, dtype)
        for name, rank in (("first", 2), ("second", 3)):
            add_adapter(backbone.base, name, LoraConfig(rank=rank))
            for key, parameter in adapter_parameters(backbone.base, name).items():
                generator = torch.Generator().manual_seed(len(key) + rank)
                parameter.data = torch.randn(parameter.shape, generator=generator).to(parameter) * 0.3
        return backbone

    return get


def both(backbone, layers):
    """Outputs of a prefix, and of three tokens after it of which the last two do not see each other."""
    generator = torch.Generator().manual_seed(0)
    dtype = backbone.word_embeddings.weight.dtype
    inputs = torch.randn(2, 9, backbone.width, generator=generator, dtype=torch.float64).to(dtype)
    read = layers.start()
    places = torch.arange(6).expand(2, -1)
    first = layers.run(inputs[:, :6], places, read)
    seen = torch.ones(2, 3, 9, dtype=torch.bool)
    seen[:, :, 6:] = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 0, 1]], dtype=torch.bool)
    seen[1, :, 4:6] = False  # this row's prefix is shorter
    places = torch.tensor([[6, 7, 7], [4, 5, 5]])
    return first, layers.run(inputs[:, 6:], places, read, seen)


def test_merged_and_fused_layers_equal_the_plain_ones(family, adapted):
    backbone, compute = adapted(family, "float32"), torch.float32
    names = ["first", "second", "one that is not there"]
    plain = inference_layers(backbone.base, backbone.word_embeddings, names, compute, fused=False)
    fast = inference_layers(backbone.base, backbone.word_embeddings, names, compute)
    assert isinstance(fast, FusedLayers) == (family in ("llama", "qwen"))
    for ours, theirs in zip(both(backbone, fast), both(backbone, plain), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)
    alone = inference_layers(backbone.base, backbone.word_embeddings, ["first"], compute)
    assert not torch.allclose(both(backbone, alone)[0], both(backbone, fast)[0], atol=1e-2)


def test_the_copy_leaves_the_model_as_it_was(family, adapted):
    backbone = adapted(family, "float32")
    before = {name: parameter.clone() for name, parameter in backbone.base.named_parameters()}
    fast = inference_layers(backbone.base, backbone.word_embeddings, ["first"], torch.float32)
    kept = both(backbone, fast)
    for name, parameter in backbone.base.named_parameters():
        assert torch.equal(parameter, before[name])
        parameter.data.mul_(2)
    for ours, again in zip(kept, both(backbone, fast), strict=True):
        assert torch.equal(ours, again)


def test_a_fork_gains_alone(family, adapted):
    backbone = adapted(family, "float32")
    layers = inference_layers(backbone.base, backbone.word_embeddings, ["first"], torch.float32)
    inputs = torch.randn(1, 8, backbone.width, generator=torch.Generator().manual_seed(0))
    read = layers.start()
    layers.run(inputs[:, :5], torch.arange(5)[None], read)
    seen, places = torch.ones(1, 3, 8, dtype=torch.bool).tril(5), torch.arange(5, 8)[None]
    first = layers.run(inputs[:, 5:], places, layers.fork(read), seen)
    again = layers.run(inputs[:, 5:], places, layers.fork(read), seen)
    assert torch.equal(first, again)


def test_float64_takes_the_layers_as_they_are(adapted):
    backbone = adapted("llama")
    assert isinstance(inference_layers(backbone.base, backbone.word_embeddings, [], torch.float64), PlainLayers)


def test_bfloat16_is_near(adapted):
    backbone = adapted("llama", "float32")
    fast = inference_layers(backbone.base, backbone.word_embeddings, ["first"], torch.bfloat16)
    plain = PlainLayers(backbone.base, torch.float32, ("first",))
    for ours, theirs in zip(both(backbone, fast), both(backbone, plain), strict=True):
        assert ours.dtype == torch.float32
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=0.15, rtol=0.1)


@pytest.mark.parametrize("change", [{"hidden_act": "gelu"}, {"sliding_window": 4}, {"model_type": "other"}])
def test_other_layers_are_not_taken_for_llamas(load_backbone, change):
    base = load_backbone("llama").base
    assert FusedLayers.fits(base)
    for name, value in change.items():
        setattr(base.config, name, value)
    assert not FusedLayers.fits(base)


@pytest.mark.parametrize("fused", [False, True])
def test_an_opening_read_once_is_the_same_as_one_read_in_every_row(family, adapted, fused):
    backbone = adapted(family, "float32")
    layers = inference_layers(backbone.base, backbone.word_embeddings, ["first"], torch.float32, fused=fused)
    inputs = torch.randn(3, 11, backbone.width, generator=torch.Generator().manual_seed(0))
    inputs[:, :5] = inputs[:1, :5]
    opening, lengths = Opening(layers, inputs[0, :5]), torch.tensor([3, 0, 2])
    for _ in range(2):  # it is as it was after the first use
        read, ends = opening.ends(inputs[:, 5:8], lengths)
        whole = layers.start()
        places = torch.arange(11).expand(3, -1)
        expected = layers.run(inputs[:, :8], places[:, :8], whole)
        torch.testing.assert_close(ends, expected[torch.arange(3), 4 + lengths], rtol=1e-4, atol=2e-5)
        seen = torch.ones(3, 3, 11, dtype=torch.bool).tril(8)
        seen[:, :, 5:8] = (torch.arange(3) < lengths[:, None])[:, None]
        after = [layers.run(inputs[:, 8:], places[:, 8:], store, seen) for store in (read, whole)]
        torch.testing.assert_close(*after, rtol=1e-4, atol=2e-5)
    assert torch.equal(opening.ends(inputs[:, :0], lengths * 0)[1], opening.ends(inputs[:, 5:8], lengths * 0)[1])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("before", [0, 4])
@pytest.mark.parametrize("masked", [False, True])
def test_outputs_wanted_are_those_of_all_and_padding_changes_none(family, adapted, fused, before, masked):
    backbone = adapted(family, "float32")
    layers = inference_layers(backbone.base, backbone.word_embeddings, ["first"], torch.float32, fused=fused)
    inputs = torch.randn(3, 11, backbone.width, generator=torch.Generator().manual_seed(0))
    places = torch.arange(11).expand(3, -1)

    def run(**asked):
        read = layers.start() if before else None
        if before:
            layers.run(inputs[:, :before], places[:, :before], read)
        seen = torch.ones(1, 11, 11, dtype=torch.bool).tril()[:, before:].expand(3, -1, -1).clone()
        seen[:, 2, before] = False
        more = inputs[:, before:].masked_fill(~asked.get("real", torch.ones(3, 11 - before, dtype=bool))[..., None], 7)
        return layers.run(more, places[:, before:], read, seen if masked else None, **asked)

    whole, wanted = run(), torch.tensor([[6, 2], [0, 3], [4, 5]])
    expected = whole.gather(1, wanted[..., None].expand(-1, -1, backbone.width))
    torch.testing.assert_close(run(wanted=wanted), expected, rtol=1e-4, atol=2e-5)
    real = torch.arange(11 - before) < torch.tensor([7, 4, 6])[:, None]
    torch.testing.assert_close(run(real=real)[real], whole[real], rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(run(wanted=wanted, real=real), expected, rtol=1e-4, atol=2e-5)


def test_a_fork_of_some_tokens_has_read_only_those(family, adapted):
    backbone = adapted(family, "float32")
    layers = inference_layers(backbone.base, backbone.word_embeddings, ["first"], torch.float32)
    inputs = torch.randn(2, 9, backbone.width, generator=torch.Generator().manual_seed(0))
    places, read, short = torch.arange(9).expand(2, -1), layers.start(), layers.start()
    layers.run(inputs[:, :7], places[:, :7], read)
    layers.run(inputs[:, :5], places[:, :5], short)
    after = [layers.run(inputs[:, 7:], places[:, 5:7], store) for store in (layers.fork(read, tokens=5), short)]
    torch.testing.assert_close(*after, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("family", ["llama", "qwen"])
def test_int8_is_near(adapted, family):
    backbone = adapted(family, "float32")
    fast = inference_layers(backbone.base, backbone.word_embeddings, ["first"], torch.float32, int8=True)
    plain = PlainLayers(backbone.base, torch.float32, ("first",))
    for ours, theirs in zip(both(backbone, fast), both(backbone, plain), strict=True):
        assert 1e-4 < float((ours - theirs).norm() / theirs.norm()) < 0.15


def test_int8_is_refused_where_it_cannot_be(adapted):
    for family, dtype, fused in (("gpt2", "float32", True), ("llama", "float64", True), ("llama", "float32", False)):
        backbone = adapted(family, dtype)
        with pytest.raises(ConfigError, match="int8: only with fused layers"):
            inference_layers(backbone.base, backbone.word_embeddings, [], getattr(torch, dtype), fused=fused, int8=True)


def test_a_row_in_int8_does_not_depend_on_the_rows_beside_it():
    generator = torch.Generator().manual_seed(0)
    weight, rows = torch.randn(7, 16, generator=generator), torch.randn(5, 16, generator=generator)
    rows[0] = rows[0].abs()  # another range than the others'
    rows[1] *= 50
    one, bias = Int8Map.of(weight, torch.arange(7.0)), torch.arange(7.0)
    together = one(rows)
    assert torch.equal(together, torch.cat([one(row[None]) for row in rows]))
    torch.testing.assert_close(together, rows @ weight.T + bias, rtol=0.05, atol=0.05 * float(rows.abs().max()))
    assert not torch.equal(together, rows @ weight.T + bias)


@pytest.mark.parametrize("rounded", [False, True])
def test_a_layout_gives_back_what_it_was_given(rounded):
    from storerec.llm.fused import _Layout, _rounded

    batch = torch.randn(3, 7, 4)
    for real in (
        None,
        torch.arange(7) < torch.tensor([[7], [7], [7]]),
        torch.arange(7) < torch.tensor([[2], [7], [1]]),
    ):
        layout = _Layout(batch.shape[:2], real, rounded=rounded)
        flat = layout.flat(batch)
        assert not rounded or len(flat) == _rounded(len(flat))
        kept = torch.ones(3, 7, dtype=torch.bool) if real is None else real
        assert torch.equal(layout.padded(flat)[kept], batch[kept])
        assert torch.equal(layout.padded(layout.flat(batch[:1]))[kept], batch[:1].expand(3, -1, -1)[kept])
    assert len({_rounded(n) for n in range(1, 1025)}) < 70
    assert all(n <= _rounded(n) <= n + max(3, n // 8) for n in range(1, 5000))
