"""The default backbone, SmolLM2-135M from the package registry, on real films: what tiny random models cannot show."""

import numpy as np
import pytest
import torch

from storerec.config import RunOptions
from storerec.data.fetch import SMOLLM2, registry_file
from storerec.data.readers.movielens import movielens_100k
from storerec.llm.backbone import Backbone, BackboneConfig
from storerec.llm.progress import Progress
from storerec.tokenizer import TokenizerConfig, encode_items, train_tokenizer

pytestmark = pytest.mark.slow
OPTIONS = RunOptions(device="cpu", dtype="float32")
QUIET = Progress(enabled=False)


@pytest.fixture(scope="module")
def backbone():
    return Backbone.load(BackboneConfig(), OPTIONS)


def test_the_default_model_is_loaded_with_its_weights(backbone):
    assert backbone.width == 576
    assert backbone.model.config.num_hidden_layers == 30
    assert backbone.word_rms() == pytest.approx(0.136, abs=0.002)


def test_it_continues_a_text(backbone):
    ids = backbone.encode(["The capital of France is"], max_tokens=20)
    with torch.no_grad():
        found = backbone.model.generate(
            torch.from_numpy(ids.flat)[None], max_new_tokens=4, do_sample=False, pad_token_id=backbone.end_id
        )
    assert "Paris" in backbone.tokenizer.decode(found[0, len(ids.flat) :])


def test_a_gguf_by_its_file_name_is_the_same_model_loads_without_bars_and_learns_films(backbone, capfd, tmp_path):
    capfd.readouterr()
    again = Backbone.load(BackboneConfig(name=str(registry_file(SMOLLM2))), OPTIONS)
    assert capfd.readouterr() == ("", "")
    ours, theirs = (dict(one.model.named_parameters()) for one in (backbone, again))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    kept = Backbone.load(BackboneConfig(), OPTIONS)  # by now from the weights that the first load wrote out
    assert kept.model.config._name_or_path != again.model.config._name_or_path
    assert all(torch.equal(ours[name], parameter) for name, parameter in kept.model.named_parameters())
    texts = ["Toy Story (1995); Children's", "  Café\n\tno 7", ""]
    for one in (backbone, kept):
        assert (
            one.encode(texts, max_tokens=99, begin=True).flat.tolist()
            == again.encode(texts, max_tokens=99, begin=True).flat.tolist()
        )
        assert one.end_id == again.end_id

    films = movielens_100k()[0].select(np.arange(16))
    config = TokenizerConfig(
        max_content_tokens=24,
        max_task_tokens=12,
        batch_items=8,
        training={"learning_rate": 1e-3, "max_steps": 4, "warmup": 0.0, "schedule": "constant"},
    )
    model, log = train_tokenizer(films, again, config, tmp_path, OPTIONS, QUIET)
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert len(losses) == 4
    assert losses[-1] < losses[0] - 0.3
    dense = encode_items(model, films, OPTIONS, QUIET)
    assert dense.shape == (16, 4, 576)
    assert np.isfinite(dense).all()
    assert 1.5 < np.sqrt(np.mean(dense**2)) < 3, "far above the words' 0.136"
