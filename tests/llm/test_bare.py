import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from storerec.config import RunOptions
from storerec.errors import BackboneError
from storerec.llm.adapters import LoraConfig, adapter_parameters, add_adapter, merge_into
from storerec.llm.backbone import Backbone, BackboneConfig
from storerec.llm.bare import BareModel, read_bare
from storerec.llm.fused import FusedLayers
from storerec.llm.layers import first_layers

OPTIONS = RunOptions(device="cpu")


def load(folder, options=OPTIONS, *, for_inference=True):
    return Backbone.load(BackboneConfig(name=str(folder)), options, for_inference=for_inference)


@pytest.fixture
def folder(tiny_backbone, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(tiny_backbone("llama"), tmp_path / "llama")


def rewrite(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def adapted(backbone, targets):
    """Two adapters, the second on two layers, with the same weights whatever holds them."""
    for name, layers in (("first", None), ("second", 2)):
        add_adapter(backbone.base, name, LoraConfig(rank=3, targets=targets), layers=layers)
        for key, parameter in adapter_parameters(backbone.base, name).items():
            generator = torch.Generator().manual_seed(len(key))
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return backbone


@pytest.mark.parametrize("targets", ["all", "attention"])
@pytest.mark.parametrize("count", [2, 3])
def test_weights_adapters_and_outputs_are_those_of_transformers(tiny_backbone, targets, count):
    folder = tiny_backbone("llama")
    bare, whole = (adapted(load(folder, for_inference=bare), targets) for bare in (True, False))
    assert isinstance(bare.model, BareModel)
    names = [{key.replace(".base_layer", ""): p for key, p in b.model.named_parameters()} for b in (bare, whole)]
    assert names[0].keys() == names[1].keys()
    assert all(torch.equal(parameter, names[1][key]) for key, parameter in names[0].items())
    inputs = torch.randn(2, 7, bare.width)
    places = torch.arange(7).expand(2, -1) + 3
    for dtype in (torch.float32, torch.bfloat16):
        first, second = (
            FusedLayers(first_layers(b.base, count), ["first", "second", "none"], dtype).run(inputs, places)
            for b in (bare, whole)
        )
        assert torch.equal(first, second)
    merge_into(bare.base, ["first", "second"])
    assert not adapter_parameters(bare.base, "first")
    merged = FusedLayers(first_layers(bare.base, count), [], torch.float32).run(inputs, places)
    apart = FusedLayers(first_layers(whole.base, count), ["first", "second"], torch.float32).run(inputs, places)
    torch.testing.assert_close(merged, apart)
    assert torch.equal(bare.text_logits(merged), whole.text_logits(merged))


def test_tokens_are_those_of_transformers(tiny_backbone):
    bare, whole = (load(tiny_backbone("llama"), for_inference=bare) for bare in (True, False))
    texts = ["Toy Story; 1995", "", " two  spaces\n\tand é ☃", "<s>GoldenEye</s> don't"]
    for begin in (True, False):
        ours, theirs = (b.encode(texts, max_tokens=12, begin=begin) for b in (bare, whole))
        assert (ours.flat.tolist(), ours.offsets.tolist()) == (theirs.flat.tolist(), theirs.offsets.tolist())
    assert (bare.end_id, bare.max_positions, bare.width) == (whole.end_id, whole.max_positions, whole.width)
    assert bare.word_rms() == whole.word_rms()


def test_a_leading_special_token_is_seen(folder):
    single = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    special = {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}
    template = {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": special}
    rewrite(folder / "tokenizer.json", post_processor=template)
    for bare in (True, False):
        assert load(folder, for_inference=bare).encode(["a"], max_tokens=5, begin=True).flat[0] == 0


def test_other_families_are_left_to_transformers(family, tiny_backbone):
    assert (read_bare(tiny_backbone(family)) is not None) == (family == "llama")


@pytest.mark.parametrize(
    "values",
    [
        {"hidden_act": "gelu"},
        {"attention_bias": True},
        {"tie_word_embeddings": False},
        {"rope_parameters": {"rope_theta": 1e4, "rope_type": "linear", "factor": 2.0}},
        {"quantization_config": {}},
        {"num_attention_heads": 2},
        {"num_hidden_layers": 2},
        {"num_hidden_layers": 4},
        {"vocab_size": 9},
    ],
)
def test_a_configuration_that_asks_for_more_is_left_to_transformers(folder, values):
    assert read_bare(folder) is not None
    rewrite(folder / "config.json", **values)
    assert read_bare(folder) is None


def test_other_weights_and_tokenizers_are_left_to_transformers(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file({name: t.bfloat16() for name, t in tensors.items()}, folder / "model.safetensors")
    assert read_bare(folder) is None
    save_file(tensors, folder / "model.safetensors")
    rewrite(folder / "tokenizer_config.json", tokenizer_class="LlamaTokenizer")
    assert read_bare(folder) is None


def test_damaged_files_are_told_as_before(folder):
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(BackboneError, match="could not be loaded"):
        load(folder)
    with pytest.raises(BackboneError, match="could not be loaded"):
        load(folder / "none")


def test_checking_options_take_the_whole_model(tiny_backbone):
    for options in (RunOptions(device="cpu", dtype="float64"), RunOptions(device="cpu", fused=False)):
        assert not isinstance(load(tiny_backbone("llama"), options).model, BareModel)
