import numpy as np
import polars as pl
import pytest
import torch

from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.errors import ConfigError
from storerec.llm.precision import arithmetic, cpu_multiplies_bfloat16, pick_device, pick_dtype
from storerec.tokenizer import DenseTokenizer, TokenizerConfig, TokenizerSamples
from storerec.tokenizer.training import collate
from tests.recommender import worlds

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float64"])
def test_a_named_dtype_is_taken(name):
    assert pick_dtype(name, CPU) is getattr(torch, name)


def test_auto_goes_by_the_processor():
    assert (pick_dtype("auto", CPU) is torch.bfloat16) == cpu_multiplies_bfloat16()
    assert pick_dtype("auto", torch.device("mps")) is torch.float32
    assert pick_device(RunOptions(device="cpu")) == CPU
    assert pick_device(RunOptions()).type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_told(name):
    if (torch.cuda if name == "cuda" else torch.backends.mps).is_available():
        pytest.skip(f"this machine has {name}")
    with pytest.raises(ConfigError, match=f"device '{name}' is not there"):
        pick_device(RunOptions(device=name))


def test_arithmetic_is_that_of_the_products():
    a = torch.randn(4, 4)
    with arithmetic(torch.bfloat16, CPU):
        assert (a @ a).dtype is torch.bfloat16
    with arithmetic(torch.float32, CPU):
        assert (a @ a).dtype is torch.float32


def close(low, high, share):
    """Whether results differ, but by a small share of their size only."""
    gap = (low.detach().float() - high.detach()).square().mean().sqrt() / high.detach().square().mean().sqrt()
    assert 0 < gap < share, float(gap)
    return True


def test_the_tokenizer_in_bfloat16_is_near_float32(family, load_backbone):
    frame = pl.DataFrame({"item_id": ["a", "b"], "title": ["Toy Story", "GoldenEye and a longer title"]})
    config = TokenizerConfig(dense_tokens=3, lora={"rank": 4})
    samples = TokenizerSamples.build(Catalogue.from_frame(frame), backbone := load_backbone(family), config)
    model = DenseTokenizer(backbone, config, samples.tasks)
    batch = collate(samples, np.arange(2))
    model.calibrate(batch["content"], batch["content_lengths"])
    model.train_only_own()
    high, loss = model.dense(batch["content"], batch["content_lengths"]), model(**batch)["loss"]
    model.compute_dtype = torch.bfloat16
    low, rough = model.dense(batch["content"], batch["content_lengths"]), model(**batch)["loss"]
    assert close(low, high, 0.05)
    assert rough.dtype is torch.float32, "the loss is summed in float32"
    assert float(rough.detach()) == pytest.approx(float(loss.detach()), rel=0.02)
    rough.backward()
    gradients = [p.grad for p in model.trained().values()]
    assert all(g.dtype is torch.float32 and g.isfinite().all() for g in gradients)
    assert all(p.dtype is torch.float32 for p in model.parameters()), "weights stay in the precision they are held in"


@pytest.mark.parametrize("normaliser", ["children", "position", "vocabulary"])
def test_the_recommender_in_bfloat16_is_near_float32(load_backbone, normaliser):
    world = worlds.make(load_backbone("llama"), normaliser=normaliser)
    model = world.model
    model.use_adapters()
    batch = {
        "context": torch.tensor([[5, 9, 11], [7, 8, 3]]),
        "context_lengths": torch.tensor([3, 2]),
        "items": torch.tensor([[1, 2, 3], [4, 5, 0]]),
        "targets": torch.tensor([[True, True, True], [True, True, False]]),
    }
    loss = model(**batch)["loss"]
    model.compute_dtype = torch.bfloat16
    rough = model(**batch)["loss"]
    assert rough.dtype is torch.float32
    assert rough != loss
    assert float(rough) == pytest.approx(float(loss), rel=0.03)
