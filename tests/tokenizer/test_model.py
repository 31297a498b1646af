import numpy as np
import polars as pl
import pytest
import torch

from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.llm.backbone import pad_ids
from storerec.llm.progress import Progress
from storerec.tokenizer import DenseTokenizer, TokenizerConfig, TokenizerSamples, encode_items
from storerec.tokenizer.training import collate
from tests.tokenizer import four_blocks


@pytest.fixture
def catalogue():
    return Catalogue.from_frame(
        pl.DataFrame(
            {
                "item_id": ["a", "b", "c", "d"],
                "title": ["Toy Story", "GoldenEye and a rather longer title", "Four", "Rooms of one's own"],
                "genres": ["Comedy", "", "Thriller Drama", "Essay"],
                "category": ["news", "sports", "", "finance"],
            }
        )
    )


def build(backbone, catalogue, **changes):
    config = TokenizerConfig(dense_tokens=3, generate=("category",), lora={"rank": 4}, **changes)
    samples = TokenizerSamples.build(catalogue, backbone, config)
    model = DenseTokenizer(backbone, config, samples.tasks, seed=1)
    with torch.no_grad():  # LoRA starts at zero: give every trained number a gradient to compare
        for parameter in model.trained().values():
            if parameter.dim() == 2:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return model, samples


@pytest.mark.parametrize("fill", ["rescaled", "plain"])
def test_two_passes_equal_the_plain_four_blocks(family, load_backbone, catalogue, fill):
    model, samples = build(load_backbone(family, "float64"), catalogue, fill=fill)
    rows = np.array([2, 0, 3, 1])
    batch = collate(samples, rows)
    model.calibrate(batch["content"], batch["content_lengths"])
    model.train_only_own()
    loss = model(**batch)["loss"]
    loss.backward()
    ours = {name: p.grad.clone() for name, p in model.trained().items()}
    model.zero_grad()

    total, count = 0.0, 0
    for row in rows:
        content = torch.from_numpy(samples.content.padded(np.array([row]))[0][0])
        for task in range(samples.tasks):
            answer = torch.from_numpy(samples.answers.padded(np.array([row * samples.tasks + task]))[0][0])
            if len(answer):
                part, targets = four_blocks.loss(model, content, task, answer)
                total, count = total + part, count + targets
    plain = total / count
    plain.backward()
    assert samples.tasks == 3
    assert count == samples.answers.lengths.sum()
    # transformers computes RMSNorm and rotary angles of Llama and Qwen in float32 whatever the model's dtype
    tolerance = 1e-5 if family in ("llama", "qwen") else 1e-10
    torch.testing.assert_close(loss, plain, rtol=tolerance, atol=0)
    for name, parameter in model.trained().items():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, f"{name} is not trained"
        gap = (ours[name] - parameter.grad).abs().max() / parameter.grad.abs().max()
        assert gap <= tolerance, f"{name}: {gap}"


def test_only_what_the_paper_trains_is_trained(load_backbone, catalogue):
    model, samples = build(load_backbone(), catalogue)
    model.train_only_own()
    model(**collate(samples, np.arange(4)))["loss"].backward()
    touched = {name for name, p in model.named_parameters() if p.grad is not None}
    assert touched == set(model.trained())
    assert not any("embed_tokens" in name for name in touched)


def test_the_task_block_sees_content_only_through_the_dense_tokens(load_backbone, catalogue):
    model, samples = build(load_backbone("gpt2"), catalogue)
    batch = collate(samples, np.array([0]))
    dense = model.dense(batch["content"], batch["content_lengths"]).detach().requires_grad_(True)
    model(**batch)
    from storerec.tokenizer.model import TaskBatch

    tasks = TaskBatch(batch["task_item"], batch["task"], batch["answer"], batch["answer_lengths"])
    model.task_loss(dense, batch["content_lengths"], tasks).backward()
    assert (dense.grad.abs().sum(-1) > 0).all()


def test_padding_and_batching_change_no_dense_token(family, load_backbone, catalogue):
    model, _ = build(load_backbone(family), catalogue, encode_tokens=128)
    together = encode_items(model, catalogue, RunOptions(device="cpu"), Progress(enabled=False))
    assert together.shape == (4, 3, model.backbone.width)
    for row in range(4):
        one = Catalogue.from_frame(catalogue.frame[row : row + 1])
        alone = encode_items(model, one, RunOptions(device="cpu"), Progress(enabled=False))[0]
        np.testing.assert_allclose(together[row], alone, rtol=2e-4, atol=2e-4)


def test_calibration_brings_the_fill_to_the_word_embeddings_scale(family, load_backbone, catalogue):
    model, samples = build(load_backbone(family), catalogue)
    content = pad_ids(samples.content, np.arange(4), model.backbone.device)
    model.calibrate(*content)
    filled = (model.dense(*content) * model.gain).detach()
    assert float(filled.square().mean().sqrt()) == pytest.approx(model.backbone.word_rms(), rel=1e-4)


def test_answers_end_and_empty_attributes_have_no_sample(load_backbone, catalogue):
    backbone = load_backbone()
    samples = TokenizerSamples.build(catalogue, backbone, TokenizerConfig(generate=("category",)))
    lengths = samples.answers.lengths.reshape(4, 3)
    assert lengths[1, 1] == 0
    assert lengths[2, 2] == 0
    assert (lengths > 0).sum() == 10
    ids, count = samples.answers.padded(np.array([0]))
    assert ids[0, count[0] - 1] == backbone.end_id
    assert backbone.tokenizer.decode(ids[0, : count[0] - 1]) == "Toy Story"
    content, count = samples.content.padded(np.array([1]))
    assert backbone.tokenizer.decode(content[0, : count[0]]) == "title: GoldenEye and a rather longer title"
