"""Training and search on a CUDA GPU in bfloat16: how much of the matmul rate is used, and latency against ``generate``.

    python -m benchmarks.gpu --out runs/bench

Operations are those of the matrix products alone, counted as in benchmarks/recommender_training.py; the rate they are
held against is that of a product of 8,192 cubed, measured in the same run. Attention, norms and losses count as waste.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks import beam_search, recommender_training, tokenizer_training
from benchmarks.harness import arguments, row, write
from storerec.config import RunOptions
from storerec.llm.backbone import Backbone, BackboneConfig
from storerec.recommender import BeamSearch, Decoder, SearchConfig
from storerec.recommender.tasks import RecommenderSamples
from storerec.tokenizer import DenseTokenizer, TokenizerConfig

OPTIONS = RunOptions(device="cuda")
AIM = 0.45
"""Share of the matmul rate that training aims at."""


def seconds(call: Callable[[], Any], rounds: int) -> float:
    """Median time of a call, after two for warming up."""
    spent = []
    for number in range(rounds + 2):
        torch.cuda.synchronize()
        started = time.perf_counter()
        call()
        torch.cuda.synchronize()
        if number >= 2:
            spent.append(time.perf_counter() - started)
    return float(np.median(spent))


def matmul_rate() -> float:
    """Operations a second of a large bfloat16 product of random numbers."""
    size = 8192
    left, right = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / seconds(lambda: left @ right, 20)


def losses(model: Any, some: dict[str, Any]) -> str:
    """How far the loss in bfloat16 is from that in float32."""
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        model.compute_dtype = dtype
        with torch.no_grad():
            found.append(float(model(**some)["loss"]))
    return f"loss {found[1]:.4f}, in float32 {found[0]:.4f}"


def used(
    what: str, spent: float, operations: float, rate: float, counted: str, same: str, **more: Any
) -> dict[str, Any]:
    """A row: the time of a step beside what its products would take at the measured rate."""
    print(f"  {operations / spent / rate:.1%} of the matmul rate")
    return row(
        what, spent, None, bound=operations / rate, counted=counted, goal=operations / rate / AIM,
        same=same, share_of_rate=operations / spent / rate, **more,
    )  # fmt: skip


def products(model: Any) -> tuple[int, int]:
    """Of a token's way through the layers, forward and back: weights of frozen maps, and of adapters."""
    maps = sum(p.numel() for name, p in model.base.named_parameters() if name.endswith("base_layer.weight"))
    return maps, sum(p.numel() for name, p in model.trained().items() if ".lora_" in name)


def tokenizer_step(backbone: Backbone, rate: float, items: int, rounds: int) -> dict[str, Any]:
    """One step of the dense tokenizer: 64 tokens of content, four tasks of 32."""
    model = DenseTokenizer(backbone, TokenizerConfig(), tokenizer_training.TASKS)
    content, answer, tasks, v = 64, 32, tokenizer_training.TASKS, model.settings.dense_tokens
    some = {
        name: value.to(backbone.device)
        for name, value in tokenizer_training.batch(model, items, content, answer).items()
    }
    model.calibrate(some["content"], some["content_lengths"])
    same = losses(model, some)
    model.train_only_own()
    spent = seconds(lambda: tokenizer_training.step(model, lambda: model(**some)["loss"]), rounds)
    maps, adapters = products(model)
    tokens = items * (content + v + tasks * (v + answer))
    head = items * tasks * answer * backbone.word_embeddings.weight.numel()
    # a frozen weight is in two products, forward and gradient of its input; a trained one in three
    operations = tokens * (4 * maps + 6 * adapters) + 4 * head
    counted = (
        f"{tokens:,} tokens through {maps / 1e6:.0f} M frozen and {adapters / 1e6:.1f} M trained weights, and head"
    )
    return used(
        f"tokenizer training, {items} items a step",
        spent,
        operations,
        rate,
        counted,
        same,
        tokens_per_second=tokens / spent,
    )


def recommender_step(backbone: Backbone, rate: float, users: int, rounds: int) -> dict[str, Any]:
    """One step of the recommender over histories of 20 items as codes."""
    length = 20
    _, table = recommender_training.histories(2)
    model = recommender_training.recommender(backbone, table)
    items = np.random.default_rng(0).integers(0, len(table), users * length).astype(np.int32)
    past = recommender_training.Histories.from_arrays(
        [str(user) for user in range(users)], np.arange(users + 1) * length, items
    )
    instruction = backbone.encode([model.settings.prompts.sequence], max_tokens=999, begin=True).flat
    samples = RecommenderSamples(past, (), instruction, model.settings, seed=0)
    some = {
        name: value.to(backbone.device) if isinstance(value, torch.Tensor) else value
        for name, value in samples.collate(list(range(users))).items()
    }
    same = losses(model, some)
    model.train_only_own()
    spent = seconds(lambda: tokenizer_training.step(model, lambda: model(**some)["loss"]), rounds)
    maps, adapters = products(model)
    tokens = users * (length * recommender_training.POSITIONS - 1) + len(instruction)
    operations = tokens * (4 * maps + 6 * adapters)
    counted = f"{tokens:,} tokens through {maps / 1e6:.0f} M frozen and {adapters / 1e6:.1f} M trained weights"
    return used(
        f"recommender training, {users} histories of {length} items a step", spent, operations, rate, counted, same,
        histories_per_second=users / spent,
    )  # fmt: skip


def searches(rounds: int) -> list[dict[str, Any]]:
    """Latency of the beam search, for one user and for 64, against ``generate`` in the same precision."""
    model, table = beam_search.build(OPTIONS)
    decoder = Decoder(model, dtype=torch.bfloat16)
    whole, text = beam_search.plain(model)
    whole = whole.to(torch.bfloat16)
    rows = []
    for beam, users in ((20, 1), (50, 1), (20, 64), (50, 64)):
        past = beam_search.histories(table, users)
        generate = beam_search.generated(whole, text, model, table, past, beam)
        config = SearchConfig(beam=beam)
        ours, heads = (BeamSearch(decoder, table, config, normaliser) for normaliser in ("vocabulary", "children"))
        same = beam_search.agreement(ours(past, beam)[0], generate())
        spent, narrow = (
            seconds(lambda one=one, past=past, beam=beam: one(past, beam), rounds) for one in (ours, heads)
        )
        tokens, steps = len(decoder.instruction) + 21 * 4, beam * 3
        rows.append(
            row(
                f"beam search, {users} user{'s' * (users > 1)}, beam {beam}", spent, seconds(generate, 3),
                bound=(beam * tokens + steps) / (tokens - len(decoder.instruction) + steps),
                counted="tokens through the layers, as in benchmarks/beam_search.py", goal=0.0,
                same=f"{same} (both in bfloat16)", over_children=narrow,
            )
        )  # fmt: skip
    return rows


def main() -> None:
    """Measure."""
    given = arguments(__doc__, items=(128, "items of a tokenizer step"), histories=(256, "histories of a step"))
    rate = matmul_rate()
    print(f"{torch.cuda.get_device_name()}: {rate / 1e12:.0f} TFLOP/s in bfloat16")
    rows = [tokenizer_step(Backbone.load(BackboneConfig(), OPTIONS), rate, given.items, 5 * given.rounds)]
    rows.append(recommender_step(Backbone.load(BackboneConfig(), OPTIONS), rate, given.histories, 5 * given.rounds))
    rows += searches(5 * given.rounds)
    write("gpu", given, rows, matmul_rate=rate)


if __name__ == "__main__":
    main()
