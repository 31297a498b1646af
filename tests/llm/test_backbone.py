import json
import logging as python_logging
import shutil

import pytest
import torch
from tokenizers import processors
from transformers import AutoTokenizer, BertConfig, BertLMHeadModel
from transformers.utils import logging

from storerec.config import RunOptions
from storerec.errors import BackboneError, ConfigError
from storerec.llm.backbone import Backbone, BackboneConfig, check_forward

OPTIONS = RunOptions(device="cpu")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/no/such/folder", "could not be loaded"),
        ("no-such-owner/no-such-model", "could not be loaded"),
        ("models/none.gguf", "no such file"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(name, words):
    with pytest.raises(BackboneError) as caught:
        Backbone.load(BackboneConfig(name=name), OPTIONS)
    text = str(caught.value)
    assert name in text
    assert words in text
    assert "\n" not in text
    assert len(text) < 500


def test_a_folder_that_holds_no_model(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BackboneError, match="could not be loaded") as caught:
        Backbone.load(BackboneConfig(name=str(tmp_path)), OPTIONS)
    assert "\n" not in str(caught.value)


def test_a_missing_gguf_in_a_folder(tiny_backbone):
    with pytest.raises(BackboneError, match="could not be loaded"):
        Backbone.load(BackboneConfig(name=str(tiny_backbone()), gguf_file="none.gguf"), OPTIONS)


def test_a_truncated_weight_file(tiny_backbone, tmp_path):
    shutil.copytree(tiny_backbone(), tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BackboneError, match="could not be loaded"):
        Backbone.load(BackboneConfig(name=str(tmp_path / "m")), OPTIONS)


def test_weights_of_another_size_than_the_configuration_says(tiny_backbone, tmp_path):
    shutil.copytree(tiny_backbone(), tmp_path / "m")
    settings = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps(settings | {"intermediate_size": 96}))
    with pytest.raises(BackboneError, match="could not be loaded") as caught:
        Backbone.load(BackboneConfig(name=str(tmp_path / "m")), OPTIONS)
    assert "\n" not in str(caught.value)


def test_a_model_that_reads_both_ways_is_refused(tiny_backbone, tmp_path):
    words = AutoTokenizer.from_pretrained(tiny_backbone())
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    for decoder in (False, True):
        folder = tmp_path / str(decoder)
        BertLMHeadModel(BertConfig(vocab_size=len(words), is_decoder=decoder, **shape)).save_pretrained(folder)
        words.save_pretrained(folder)
    with pytest.raises(BackboneError, match="not causal"):
        Backbone.load(BackboneConfig(name=str(tmp_path / "False")), OPTIONS)
    Backbone.load(BackboneConfig(name=str(tmp_path / "True")), OPTIONS)


def test_a_file_that_is_no_gguf(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"this is text")
    with pytest.raises(BackboneError, match="could not be loaded"):
        Backbone.load(BackboneConfig(name=str(tmp_path / "model.gguf")), OPTIONS)


def test_a_tokenizer_without_an_end_token(tiny_backbone, tmp_path):
    shutil.copytree(tiny_backbone(), tmp_path / "m")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path / "m")
    with pytest.raises(BackboneError, match="end-of-sequence"):
        Backbone.load(BackboneConfig(name=str(tmp_path / "m")), OPTIONS)


def test_everything_is_frozen_and_outputs_are_as_wide_as_inputs(family, load_backbone):
    backbone = load_backbone(family)
    assert not any(p.requires_grad for p in backbone.model.parameters())
    assert not backbone.model.training
    assert backbone.width == (16 if family == "opt" else 32), "OPT's words are narrower than its layers"
    check_forward(backbone)
    ids = torch.tensor([[4, 7, 19]])
    with torch.no_grad():
        hidden = backbone.base(inputs_embeds=backbone.embed(ids), use_cache=False).last_hidden_state
        assert hidden.shape == (1, 3, backbone.width)
        torch.testing.assert_close(backbone.text_logits(hidden), backbone.model(ids).logits)
    assert backbone.word_rms() == pytest.approx(float(backbone.word_embeddings.weight.square().mean()) ** 0.5)
    assert backbone.max_positions == 512


def test_unequal_widths_without_a_projection_are_refused(load_backbone):
    backbone = load_backbone("opt")
    backbone.base.decoder.project_out = None
    with pytest.raises(BackboneError, match="reads vectors of 16 and returns 32"):
        check_forward(backbone)


def test_text_becomes_tokens_and_is_cut(load_backbone):
    backbone = load_backbone()
    ids = backbone.encode(["Toy Story", "", "GoldenEye is a long title"], max_tokens=6, begin=True)
    whole = backbone.encode(["GoldenEye is a long title"], max_tokens=99)
    assert ids.lengths[1] == 0
    assert ids.lengths[2] == 6
    assert ids.flat[ids.offsets[2] :].tolist() == whole.flat[:6].tolist()
    assert backbone.tokenizer.decode(ids.flat[: ids.lengths[0]]) == "Toy Story"
    assert len(backbone.encode([], max_tokens=5)) == 0


def test_a_beginning_token_stands_first_where_the_model_knows_one(tiny_backbone, tmp_path):
    shutil.copytree(tiny_backbone(), tmp_path / "m")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    template = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)])
    tokenizer.backend_tokenizer.post_processor = template
    tokenizer.save_pretrained(tmp_path / "m")
    backbone = Backbone.load(BackboneConfig(name=str(tmp_path / "m")), OPTIONS)
    plain, begun = (backbone.encode(["Toy Story"], max_tokens=99, begin=begin).flat.tolist() for begin in (False, True))
    assert begun == [tokenizer.bos_token_id, *plain]
    assert tokenizer.bos_token_id not in plain
    assert len(backbone.encode(["Toy Story"], max_tokens=2, begin=True).flat) == 2, "the limit counts it"


def test_loading_is_silent_and_leaves_transformers_settings_alone(tiny_backbone, capfd):
    level = logging.get_verbosity()
    try:
        logging.set_verbosity_info()
        logging.enable_progress_bar()
        capfd.readouterr()
        Backbone.load(BackboneConfig(name=str(tiny_backbone("qwen"))), OPTIONS)
        with pytest.raises(BackboneError):
            Backbone.load(BackboneConfig(name="/no/such/folder"), OPTIONS)
        assert capfd.readouterr() == ("", "")
        assert logging.get_verbosity() == python_logging.INFO
        assert logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        Backbone.load(BackboneConfig(name=str(tiny_backbone("qwen"))), OPTIONS)
        assert not logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()


def test_double_precision_is_the_whole_models(load_backbone):
    assert {p.dtype for p in load_backbone(dtype="float64").model.parameters()} == {torch.float64}


def test_double_precision_of_inference_alone_is_refused(tiny_backbone):
    place = BackboneConfig(name=str(tiny_backbone()))
    with pytest.raises(ConfigError, match="needs dtype float64"):
        Backbone.load(place, RunOptions(device="cpu", inference_dtype="float64"))
    Backbone.load(place, RunOptions(device="cpu", dtype="float64", inference_dtype="float64"))
