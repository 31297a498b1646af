"""Scoring many candidates of one user against one pass per candidate.

    python -m benchmarks.scoring --out runs/bench

SmolLM2-135M, a history of about 100 tokens. Ours reads the history once and the candidates behind it, 32 at a time
under a block mask; the other reads history and candidate together for each, 20 in a batch, through transformers' layers
with merged adapters (of 1,000 candidates the first 200, and their time times five). The bound counts tokens through the
layers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.beam_search import HISTORY, POSITIONS, build, histories
from benchmarks.harness import arguments, curve, in_turn, row, write
from storerec.config import RunOptions
from storerec.data import Candidates
from storerec.llm.adapters import merge_into
from storerec.recommender.scoring import CodeScorer, ScorerConfig
from storerec.recommender.scoring_inference import opening_of, predict

BATCH, SAMPLE, COUNTS = 20, 200, (20, 100, 1000)


def one_by_one(model: CodeScorer, base: torch.nn.Module, candidates: Candidates) -> Callable[[], np.ndarray]:
    """A call that gives the same margins by whole sequences."""
    history = torch.from_numpy(candidates.histories.items.astype(np.int64))[None]
    items = torch.from_numpy(candidates.items.astype(np.int64))

    @torch.no_grad()
    def call() -> np.ndarray:
        past, _ = model.past(history, torch.tensor([history.shape[1]]))
        found = []
        for some in items.split(BATCH):
            blocks = model.blocks(some[:, None])[:, 0]  # (candidates, block, width)
            inputs = torch.cat([past.expand(len(some), -1, -1), blocks], dim=1)
            hidden = base(inputs_embeds=inputs, use_cache=False).last_hidden_state[:, -1]
            logits = model.answers(hidden)  # (candidates, 2)
            found.append(logits[:, 0] - logits[:, 1])
        return torch.cat(found).double().numpy()

    return call


def main() -> None:
    """Measure."""
    given = arguments(__doc__)
    recommender, table = build(RunOptions(device="cpu"))
    model = CodeScorer(recommender, ScorerConfig(tuning="head", max_history=HISTORY)).requires_grad_(False).eval()
    base: Any = copy.deepcopy(model.base)
    merge_into(base, model.adapters)
    opening = opening_of(model, torch.float32)
    past = histories(table, 1)
    tokens, block = len(model.instruction) + HISTORY * POSITIONS, POSITIONS + len(model.question)
    lines = []
    for count in COUNTS:
        items = np.random.default_rng(2).integers(0, len(table), count).astype(np.int32)
        candidates = Candidates(past, np.array([0, count]), items)
        some = Candidates(past, np.array([0, min(count, SAMPLE)]), items[:SAMPLE])
        ways = {
            "ours": lambda candidates=candidates: predict(model, candidates, torch.float32, opening=opening),
            "plain": one_by_one(model, base, some),
        }
        apart = float(np.abs(ways["ours"]()[:SAMPLE] - ways["plain"]()).max())
        spent = in_turn(ways, given.rounds if count < SAMPLE else min(given.rounds, 2), warm=False)
        spent["plain"] *= count / len(some.items)  # its time is one batch's, times their number
        own = tokens - len(model.instruction)  # the instruction is read when the layers are made
        bound = count * (tokens + block) / (own + count * block)
        lines.append(
            row(
                f"scoring {count:,} candidates", spent["ours"], spent["plain"], bound=bound, goal=8.0,
                counted=f"tokens through the layers: {count} x ({tokens} + {block}) / ({own} + {count} x {block})",
                same=f"largest difference of a logit {apart:.1e}",
            )
        )  # fmt: skip
    both = {"history_once": [one["ours"] for one in lines], "each_candidate": [one["other"] for one in lines]}
    grows = curve("scoring one user's candidates", "candidates", "seconds", COUNTS, **both)
    write("scoring", given, lines, curves=[grows])


if __name__ == "__main__":
    main()
