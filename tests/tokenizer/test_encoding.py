from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.errors import TrainingError
from storerec.llm.progress import Progress
from storerec.tokenizer import DenseFiles, TokenizerConfig, drop_encoded, encode_items, train_tokenizer

OPTIONS, QUIET = RunOptions(device="cpu", dtype="float32"), Progress(enabled=False)


class Killed(BaseException):
    pass


@pytest.fixture
def catalogue():
    titles = [" ".join(["word"] * (1 + i % 7)) + f" {i}" for i in range(90)]
    return Catalogue.from_frame(pl.DataFrame({"item_id": [f"i{i}" for i in range(90)], "title": titles}))


@pytest.fixture
def tokenizer(load_backbone, catalogue, tmp_path):
    config = TokenizerConfig(
        dense_tokens=2, lora={"rank": 2}, training={"max_steps": 1}, encode_tokens=128, encode_chunk=16
    )
    return train_tokenizer(catalogue, load_backbone(), config, tmp_path / "t", OPTIONS, QUIET)[0]


@pytest.fixture
def calls(tokenizer, monkeypatch):
    """Counts the model's calls in ``made``; the call after ``last`` of them ends the program."""
    plain, count = tokenizer.dense, SimpleNamespace(made=0, last=None)

    def dense(*inputs, **layers):
        if count.made == count.last:
            raise Killed
        count.made += 1
        return plain(*inputs, **layers)

    monkeypatch.setattr(tokenizer, "dense", dense)
    return count


def test_a_killed_encoding_goes_on_and_ends_the_same(tokenizer, catalogue, tmp_path, calls):
    whole = encode_items(tokenizer, catalogue, OPTIONS, QUIET)
    batches, calls.made, calls.last = calls.made, 0, 7
    with pytest.raises(Killed):
        encode_items(tokenizer, catalogue, OPTIONS, QUIET, folder=tmp_path)
    files = set(tmp_path.rglob("*.safetensors"))
    assert 0 < len(files) < 6
    calls.made, calls.last = 0, None
    again = encode_items(tokenizer, catalogue, OPTIONS, QUIET, folder=tmp_path)
    assert batches - 7 <= calls.made < batches
    np.testing.assert_array_equal(again, whole)
    calls.last = calls.made
    np.testing.assert_array_equal(encode_items(tokenizer, catalogue, OPTIONS, QUIET, folder=tmp_path), whole)
    drop_encoded(tmp_path)
    assert not list(tmp_path.glob("dense_tokens*"))


def test_a_chunk_depends_on_its_own_items_alone(tokenizer, catalogue):
    whole = encode_items(tokenizer, catalogue, OPTIONS, QUIET)
    part = encode_items(tokenizer, catalogue.select(np.arange(32, 64)), OPTIONS, QUIET)
    np.testing.assert_array_equal(part, whole[32:64])


@pytest.mark.parametrize("change", ["text", "weights"])
def test_what_was_encoded_of_something_else_is_made_anew(tokenizer, catalogue, tmp_path, calls, change):
    calls.last = 3
    with pytest.raises(Killed):
        encode_items(tokenizer, catalogue, OPTIONS, QUIET, folder=tmp_path)
    calls.last = None
    if change == "text":
        catalogue = Catalogue.from_frame(catalogue.frame.with_columns(title="title" + pl.col("item_id")))
    else:
        tokenizer.dense_tokens.data.add_(0.1)
    again = encode_items(tokenizer, catalogue, OPTIONS, QUIET, folder=tmp_path)
    np.testing.assert_array_equal(again, encode_items(tokenizer, catalogue, OPTIONS, QUIET))


def test_merged_layers_encode_as_the_plain_ones_do(family, load_backbone, catalogue, tmp_path):
    config = TokenizerConfig(dense_tokens=2, lora={"rank": 2}, training={"max_steps": 3, "learning_rate": 0.1})
    model = train_tokenizer(catalogue, load_backbone(family), config, tmp_path, OPTIONS, QUIET)[0]
    plain = encode_items(model, catalogue, OPTIONS.model_copy(update={"fused": False}), QUIET)
    np.testing.assert_allclose(encode_items(model, catalogue, OPTIONS, QUIET), plain, rtol=1e-3, atol=1e-3)


def test_files_give_rows_and_parts_as_the_whole_array_does(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((23, 2, 5)).astype(np.float32)
    files = DenseFiles.begin(tmp_path, "one", vectors.shape, 4)
    assert (files.missing(), len(files), files.chunks) == ([0, 1, 2, 3, 4, 5], 23, 6)
    for number in reversed(range(6)):
        files.write(number, vectors[files.part(number)])
    assert not DenseFiles.finished(tmp_path)
    DenseFiles.begin(tmp_path, "another", vectors.shape, 4).write(1, vectors[4:8])
    files.finish()
    found = DenseFiles.open(tmp_path)
    np.testing.assert_array_equal(found.whole(), vectors)
    np.testing.assert_array_equal(np.concatenate(list(found)), vectors)
    rows = np.array([0, 3, 4, 11, 20, 22])
    np.testing.assert_array_equal(found.take(rows, 1), vectors[rows, 1])
    assert [path.name for path in (tmp_path / "dense_tokens").iterdir()] == ["one"]
    found.file(2).unlink()
    with pytest.raises(TrainingError, match=r"00000002.safetensors is missing"):
        DenseFiles.open(tmp_path)
