"""Training step of the dense tokenizer against the plain four-block pass.

    python -m benchmarks.tokenizer_training --out runs/bench

The plain form holds content, token, placeholder and task blocks in one sequence under the cascaded mask, once per task,
and runs it twice: first for the outputs that fill the placeholder, then with them. Ours reads the content once for all
tasks and each task behind the fill. Losses and gradients are compared before timing. The bound counts tokens through
the layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.harness import arguments, in_turn, row, write
from storerec.config import RunOptions
from storerec.llm.backbone import Backbone, BackboneConfig
from storerec.tokenizer import DenseTokenizer, TokenizerConfig

TASKS = 4
CONTENT, TOKEN, PLACEHOLDER, TASK = range(4)


def batch(model: DenseTokenizer, items: int, content: int, answer: int) -> dict[str, torch.Tensor]:
    """Random tokens: ``items`` items of ``content`` tokens, four tasks of ``answer`` tokens each."""
    generator = torch.Generator().manual_seed(0)
    words = model.backbone.word_embeddings.num_embeddings
    return {
        "content": torch.randint(0, words, (items, content), generator=generator),
        "content_lengths": torch.full((items,), content),
        "task_item": torch.arange(items).repeat_interleave(TASKS),
        "task": torch.arange(TASKS).repeat(items),
        "answer": torch.randint(0, words, (items * TASKS, answer), generator=generator),
        "answer_lengths": torch.full((items * TASKS,), answer),
    }


def four_blocks(model: DenseTokenizer, given: dict[str, torch.Tensor]) -> torch.Tensor:
    """The plain loss."""
    embed, v = model.backbone.embed, model.settings.dense_tokens
    content, answer = given["content"][given["task_item"]], given["answer"]
    rows, size = content.shape
    blocks = torch.tensor([CONTENT] * size + [TOKEN] * v + [PLACEHOLDER] * v + [TASK] * answer.shape[1])
    query, key = blocks[:, None], blocks
    seen = (query == key) & (torch.arange(len(blocks))[:, None] >= torch.arange(len(blocks)))
    seen = seen | ((query == TOKEN) & (key == CONTENT)) | ((query == TASK) & (key == PLACEHOLDER))
    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[None, None]
    places = torch.arange(len(blocks)).expand(rows, -1)

    def run(fill: torch.Tensor) -> torch.Tensor:
        inputs = torch.cat(
            [
                embed(content),
                model.dense_tokens.expand(rows, -1, -1),
                fill,
                model.task_tokens[given["task"]][:, None],
                embed(answer[:, :-1]),
            ],
            dim=1,
        )  # (samples, all four blocks, width)
        out = model.base(inputs_embeds=inputs, attention_mask=mask, position_ids=places, use_cache=False)
        return out.last_hidden_state

    first = run(torch.zeros(rows, v, model.backbone.width))[:, size : size + v]
    hidden = run(first * model.gain)[:, size + 2 * v :]
    return F.cross_entropy(model.backbone.text_logits(hidden).flatten(0, 1), answer.flatten())


def step(model: DenseTokenizer, loss: Callable[[], torch.Tensor]) -> dict[str, torch.Tensor]:
    """One forward and backward pass; gradients by name."""
    model.zero_grad(set_to_none=True)
    loss().backward()
    return {name: p.grad for name, p in model.trained().items() if p.grad is not None}


def main() -> None:
    """Measure."""
    given = arguments(__doc__, items=(4, "items per batch"))
    backbone = Backbone.load(BackboneConfig(), RunOptions(device="cpu"))
    model = DenseTokenizer(backbone, TokenizerConfig(), TASKS)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.trained().items():
        if "lora_B" in name:  # zero at first: gradients of the other factor would be zero too
            parameter.data = torch.randn(parameter.shape, generator=generator).to(parameter.device) * 0.01
    model.train_only_own()
    lines = []
    for content, answer, goal in ((64, 32, 3.7), (128, 24, 5.0)):
        some = batch(model, given.items, content, answer)
        model.calibrate(some["content"], some["content_lengths"])
        model.train_only_own()
        ways: dict[str, Callable[[], Any]] = {
            "ours": lambda some=some: step(model, lambda: model(**some)["loss"]),
            "plain": lambda some=some: step(model, lambda: four_blocks(model, some)),
        }
        ours, plain = ways["ours"](), ways["plain"]()
        apart = max(float((ours[name] - plain[name]).norm() / plain[name].norm()) for name in plain)
        spent = in_turn(ways, given.rounds, warm=False)
        v = model.settings.dense_tokens
        once, all_four = content + v + TASKS * (v + answer), 2 * TASKS * (content + 2 * v + answer)
        # of one item, forward: a token passes all maps, and each task's tokens the text head, in both ways
        head = TASKS * answer * backbone.word_embeddings.weight.numel()
        maps = sum(m.in_features * m.out_features for m in backbone.base.modules() if isinstance(m, torch.nn.Linear))
        with_head = (all_four * maps + head) / (once * maps + head)
        counted = f"tokens through the layers per item: {all_four} / {once}; with the text head, "
        counted += f"which is equal in both, {with_head:.2f}x"
        line = row(
            f"tokenizer training, content {content}, task {answer}", spent["ours"], spent["plain"],
            bound=all_four / once, counted=counted, goal=goal,
            same=f"gradients differ by {apart:.1e} of their norm at most",
            tokens_per_second=given.items * once / spent["ours"],
        )  # fmt: skip
        lines.append(line)
    write("tokenizer_training", given, lines)


if __name__ == "__main__":
    main()
