import numpy as np
import polars as pl
import pytest

from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.errors import ConfigError
from storerec.llm.progress import Progress
from storerec.tokenizer import TokenizerConfig, TokenizerSamples, encode_items, train_tokenizer

OPTIONS, QUIET = RunOptions(device="cpu", dtype="float32"), Progress(enabled=False)


def films(*columns):
    texts = {"title": ["Toy Story", "GoldenEye"], "genres": ["Comedy", "Action"], "state": ["US", "GB"]}
    return Catalogue.from_frame(pl.DataFrame({"item_id": ["a", "b"], **{name: texts[name] for name in columns}}))


@pytest.fixture(scope="module")
def trained(tiny_backbone, tmp_path_factory):
    from storerec.llm.backbone import Backbone, BackboneConfig

    backbone = Backbone.load(BackboneConfig(name=str(tiny_backbone())), OPTIONS)
    config = TokenizerConfig(dense_tokens=2, generate=("state",), lora={"rank": 2}, training={"max_steps": 1})
    folder = tmp_path_factory.mktemp("tokenizer")
    return train_tokenizer(films("title", "genres", "state"), backbone, config, folder, OPTIONS, QUIET)[0]


def test_new_items_are_read_by_the_fitted_attributes(trained):
    whole = encode_items(trained, films("title", "genres"), OPTIONS, QUIET)
    extra = films("state", "genres", "title")
    extra = Catalogue(extra.frame.with_columns(plot=pl.lit("long")).select("plot", pl.all().exclude("plot")), "title")
    assert np.array_equal(whole, encode_items(trained, extra, OPTIONS, QUIET))
    with pytest.raises(ConfigError, match="lack the attribute 'genres'"):
        encode_items(trained, films("title", "state"), OPTIONS, QUIET)


def test_only_what_is_cut_lacks_its_end(load_backbone):
    backbone = load_backbone()
    text = "GoldenEye Four Rooms"
    size = int(backbone.encode([text], max_tokens=99).lengths[0])
    frame = pl.DataFrame({"item_id": ["a", "b", "c"], "title": [text, "", f"{text} Four"]})

    def answers(limit):
        samples = TokenizerSamples.build(Catalogue.from_frame(frame), backbone, TokenizerConfig(max_task_tokens=limit))
        padded, lengths = samples.answers.padded(np.arange(3))
        return [row[:length].tolist() for row, length in zip(padded, lengths, strict=True)]

    words = backbone.encode([text], max_tokens=99).flat.tolist()
    assert answers(size) == [[*words, backbone.end_id], [], words]
    assert answers(size - 1) == [words[:-1], [], words[:-1]]
    assert answers(99)[0] == [*words, backbone.end_id]
