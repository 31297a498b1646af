"""Item embeddings: which states make the vector, by which model, and that neither batches nor adapters show in it."""

import numpy as np
import polars as pl
import pytest
import torch
from transformers import BertConfig, BertModel

from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.errors import BackboneError, ConfigError, DataError
from storerec.llm import embeddings as module
from storerec.llm.adapters import LoraConfig, activate, adapter_parameters, add_adapter
from storerec.llm.embeddings import DEFAULT_ENCODER, EmbeddingConfig, embed_items, embed_texts, item_texts, load_encoder
from storerec.llm.progress import Progress
from tests import tiny

OPTIONS = RunOptions(device="cpu", dtype="float32")
QUIET = Progress(enabled=False)


def films(count=25):
    rng = np.random.default_rng(0)
    words = ["Toy", "Story", "Golden", "Eye", "Four", "Rooms", "Thriller"]
    titles = [" ".join(rng.choice(words, size=rng.integers(1, 30))) for _ in range(count)]
    genres = ["" if i % 3 == 0 else "Comedy" for i in range(count)]
    frame = pl.DataFrame({"item_id": [f"i{i}" for i in range(count)], "title": titles, "genres": genres})
    return Catalogue.from_frame(frame)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """Folder of a tiny random BERT; its tokenizer adds no special tokens."""
    folder = tmp_path_factory.mktemp("bert")
    words = tiny.tokenizer()
    torch.manual_seed(3)
    model = BertModel(
        BertConfig(
            vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
            max_position_embeddings=64,
        )
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def config_of(source, name, **more):
    return EmbeddingConfig(source=source, name=str(name), **more)


def alone(source, folder, load_backbone, text, max_tokens=64):
    """Last hidden states (tokens, width) of one text by itself, by transformers alone."""
    with torch.no_grad():
        if source == "encoder":
            model, words = load_encoder(str(folder), options=OPTIONS)
            return model(torch.tensor([words(text)["input_ids"][:max_tokens]])).last_hidden_state[0]
        backbone = load_backbone()
        ids = backbone.tokenizer(text, add_special_tokens=False)["input_ids"][:max_tokens]
        return backbone.base(torch.tensor([ids])).last_hidden_state[0]


def test_the_text_of_an_item_names_its_filled_attributes():
    catalogue = Catalogue.from_frame(
        pl.DataFrame({"item_id": ["a", "b"], "title": ["Heat", "Up"], "genres": ["Crime", None]})
    )
    assert item_texts(catalogue) == ["title: Heat; genres: Crime", "title: Up"]


@pytest.mark.parametrize("source", ["language_model", "encoder"])
@pytest.mark.parametrize("pooling", ["mean", "last", "first"])
def test_vectors_are_those_of_each_text_alone(source, pooling, encoder, tiny_backbone, load_backbone, monkeypatch):
    monkeypatch.setattr(module, "_BATCH_TOKENS", 200)  # several batches, most of them padded
    folder = encoder if source == "encoder" else tiny_backbone()
    catalogue = films()
    got = embed_items(catalogue, config_of(source, folder, pooling=pooling, max_tokens=40), OPTIONS, QUIET)
    assert got.dtype == np.float32
    assert got.shape == (25, 32)
    take = {"mean": lambda s: s.mean(0), "last": lambda s: s[-1], "first": lambda s: s[0]}[pooling]
    for row, text in enumerate(item_texts(catalogue)):
        if row % 6 == 0:
            states = alone(source, folder, load_backbone, text, max_tokens=40)
            np.testing.assert_allclose(got[row], take(states).numpy(), rtol=1e-3, atol=1e-4)


def test_batches_do_not_show_in_the_vectors(encoder, monkeypatch):
    catalogue = films()
    whole = embed_items(catalogue, config_of("encoder", encoder), OPTIONS, QUIET)
    monkeypatch.setattr(module, "_BATCH_TOKENS", 1)  # one item at a time
    np.testing.assert_allclose(
        embed_items(catalogue, config_of("encoder", encoder), OPTIONS, QUIET), whole, rtol=1e-4, atol=1e-5
    )


def test_length_is_cut_at_max_tokens_and_at_what_the_model_reads(encoder):
    long = "Story " * 200
    full = embed_texts([long], config_of("encoder", encoder, max_tokens=5000), OPTIONS, QUIET)  # the model reads 64
    cut = embed_texts([long], config_of("encoder", encoder, max_tokens=64), OPTIONS, QUIET)
    short = embed_texts([long], config_of("encoder", encoder, max_tokens=3), OPTIONS, QUIET)
    np.testing.assert_array_equal(full, cut)
    assert np.abs(full - short).max() > 0.01


def test_normalised_vectors_have_length_one_and_the_same_direction(encoder):
    plain = embed_items(films(), config_of("encoder", encoder), OPTIONS, QUIET)
    unit = embed_items(films(), config_of("encoder", encoder, normalise=True), OPTIONS, QUIET)
    np.testing.assert_allclose(unit, plain / np.linalg.norm(plain, axis=1, keepdims=True), rtol=1e-4, atol=1e-6)


def test_a_loaded_backbone_is_used_without_its_adapters(load_backbone, tiny_backbone, monkeypatch):
    folder = tiny_backbone()
    config = config_of("language_model", folder)
    expected = embed_items(films(), config, OPTIONS, QUIET)
    backbone = load_backbone()
    add_adapter(backbone.base, "other", LoraConfig(rank=4))
    for parameter in adapter_parameters(backbone.base, "other").values():
        torch.nn.init.normal_(parameter)
    activate(backbone.base, ["other"])
    ids = torch.arange(5, 15)[None]
    with torch.no_grad():
        tuned = backbone.base(ids).last_hidden_state
        monkeypatch.setattr(module.Backbone, "load", None)  # a second load would fail
        got = embed_items(films(), config, OPTIONS, QUIET, backbone=backbone)
        assert (backbone.base(ids).last_hidden_state - tuned).abs().max() > 0.1  # the adapter was not idle
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_a_loaded_backbone_of_another_name_is_not_used(load_backbone, tiny_backbone):
    wanted = tiny_backbone("qwen")
    expected = embed_items(films(4), config_of("language_model", wanted), OPTIONS, QUIET)
    got = embed_items(films(4), config_of("language_model", wanted), OPTIONS, QUIET, backbone=load_backbone("llama"))
    np.testing.assert_array_equal(got, expected)


def test_a_loaded_encoder_can_be_trained(encoder):
    model, words = load_encoder(str(encoder), options=OPTIONS)
    assert isinstance(model, BertModel)
    assert not model.training
    model(**words("Toy Story", return_tensors="pt", return_token_type_ids=False)).last_hidden_state.sum().backward()
    assert all(p.grad is not None for p in model.encoder.parameters())


def test_what_cannot_be_read_is_refused(encoder, tmp_path):
    with pytest.raises(BackboneError, match=r"encoder '.*nowhere' could not be loaded: .*all-minilm-l6-v2"):
        load_encoder(str(tmp_path / "nowhere"), options=OPTIONS)
    with pytest.raises(DataError, match="item row 1: it has no text"):
        embed_texts(["Heat", ""], config_of("encoder", encoder), OPTIONS, QUIET)
    with pytest.raises(DataError, match="no item"):
        embed_texts([], config_of("encoder", encoder), OPTIONS, QUIET)
    with pytest.raises(ConfigError, match="pooling"):
        EmbeddingConfig.parse({"pooling": "max"})


PAIRS = [
    ("A man is playing a guitar on stage", "Somebody performs music with a guitar"),
    ("The stock market fell sharply today", "Shares dropped steeply this afternoon"),
    ("How do I bake sourdough bread?", "Recipe for a loaf made with natural leaven"),
]


@pytest.mark.slow
def test_the_real_encoder_puts_paraphrases_together():
    texts = [text for pair in PAIRS for text in pair]
    x = embed_texts(texts, EmbeddingConfig(normalise=True), OPTIONS, QUIET)
    assert x.shape == (6, 384)
    cosine = x @ x.T
    for i in range(0, 6, 2):
        others = np.delete(cosine[i], [i, i + 1])
        assert cosine[i, i + 1] > 0.35
        assert cosine[i, i + 1] > others.max() + 0.2
    # similarities this model's hub page shows for these sentences
    y = embed_texts(
        ["That is a happy person", "That is a very happy person", "Today is a sunny day"],
        EmbeddingConfig(name=DEFAULT_ENCODER, normalise=True), OPTIONS, QUIET,
    )  # fmt: skip
    assert y[0] @ y[1] == pytest.approx(0.943, abs=0.01)
    assert y[0] @ y[2] == pytest.approx(0.257, abs=0.02)
