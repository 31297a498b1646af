"""Conditional beam search against transformers' ``generate`` with ``prefix_allowed_tokens_fn``.

    python -m benchmarks.beam_search --out runs/bench

One model, one history of about 100 tokens, four codes of 256, the same normaliser: ``generate`` normalises over text
vocabulary and codes together, so both do. It reads the history once per beam; we read it once, behind an instruction
that is read once for all users. Then the same with
probabilities over the children alone, which needs no text head. Both must return the same items in the same order.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.harness import arguments, curve, in_turn, row, write
from storerec.codes import CodeTable, CodeTree
from storerec.config import RunOptions
from storerec.data.histories import Histories
from storerec.llm.backbone import Backbone, BackboneConfig
from storerec.recommender import BeamSearch, Decoder, Recommender, RecommenderConfig, SearchConfig

ITEMS, CODES, POSITIONS, HISTORY = 10_000, 256, 4, 21


def build(options: RunOptions) -> tuple[Recommender, CodeTable]:
    """A recommender over random codes with both adapters changed from their start, as after training."""
    rng = np.random.default_rng(0)
    codes = np.unique(rng.integers(0, CODES, (ITEMS, POSITIONS)), axis=0).astype(np.int32)  # a tuple is an item
    table = CodeTable.build(codes, (CODES,) * POSITIONS)
    backbone = Backbone.load(BackboneConfig(), options)
    model = Recommender(
        backbone, RecommenderConfig(alignment=False, max_history=HISTORY), CodeTree.from_table(table), None
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.trained().items():
            scale = 0.02 if "lora" in name else float(parameter.std())
            parameter.add_(torch.randn(parameter.shape, generator=generator).to(parameter.device) * scale)
    return model.requires_grad_(False).eval(), table


def histories(table: CodeTable, users: int) -> Histories:
    """Histories of 21 items: about 100 tokens with the instruction."""
    rng = np.random.default_rng(1)
    items = rng.integers(0, len(table), users * HISTORY).astype(np.int32)
    return Histories.from_arrays([str(u) for u in range(users)], np.arange(users + 1) * HISTORY, items)


def plain(model: Recommender) -> tuple[Any, int]:
    """The same model as transformers knows it: adapters merged, codes as words of the vocabulary."""
    from storerec.llm.adapters import merge_into

    backbone = model.backbone
    whole = copy.deepcopy(backbone.model)
    base = getattr(whole, whole.base_model_prefix)
    merge_into(base, model.adapters)
    text = backbone.word_embeddings.weight.shape[0]
    head = torch.nn.Linear(backbone.width, text + len(model.code_outputs), bias=False)
    head.weight = torch.nn.Parameter(torch.cat([backbone.model.get_output_embeddings().weight, model.code_outputs]))
    whole.set_input_embeddings(
        torch.nn.Embedding.from_pretrained(torch.cat([backbone.word_embeddings.weight, model.code_inputs]))
    )
    whole.config.tie_word_embeddings = False
    whole.set_output_embeddings(head)
    whole.config.vocab_size = len(head.weight)
    return whole.eval().requires_grad_(False), text


def generated(
    whole: Any, text: int, model: Recommender, table: CodeTable, past: Histories, beam: int
) -> Callable[[], np.ndarray]:
    """``generate`` over all users: a call that returns their items, (users, beam)."""
    starts = model.starts[:-1] + text
    words = model.backbone.encode([model.settings.prompts.sequence], max_tokens=999, begin=True).flat
    rows = (table.codes[past.items].reshape(len(past), HISTORY, POSITIONS) + starts).reshape(len(past), -1)
    prompt = torch.from_numpy(np.concatenate([np.tile(words, (len(past), 1)), rows], axis=1).astype(np.int64))
    prompt = prompt.to(whole.device)
    below: dict[tuple[int, ...], set[int]] = {}
    for codes in (table.codes + starts).tolist():
        for at in range(POSITIONS):
            below.setdefault(tuple(codes[:at]), set()).add(codes[at])
    allowed = {prefix: sorted(codes) for prefix, codes in below.items()}
    item = {tuple(codes): number for number, codes in enumerate((table.codes + starts).tolist())}
    length = prompt.shape[1]

    def call() -> np.ndarray:
        out = whole.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=POSITIONS, min_new_tokens=POSITIONS,
            num_beams=beam, num_return_sequences=beam, do_sample=False, length_penalty=0.0, eos_token_id=None,
            pad_token_id=1, prefix_allowed_tokens_fn=lambda _, ids: allowed.get(tuple(ids[length:].tolist()), [0]),
        )  # fmt: skip
        found = [item.get(tuple(codes), -1) for codes in out[:, -POSITIONS:].tolist()]
        return np.array(found).reshape(len(past), beam)

    return call


def agreement(ours: np.ndarray, theirs: np.ndarray) -> str:
    """How far the lists agree."""
    same = float((ours == theirs).mean())
    sets = np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)])
    return f"same item at the same place {same:.3f}, same items {sets:.3f}"


def main() -> None:
    """Measure."""
    given = arguments(__doc__)
    model, table = build(RunOptions(device="cpu"))
    decoder = Decoder(model)
    whole, text = plain(model)
    tokens = len(decoder.instruction) + HISTORY * POSITIONS
    rows = []
    for beam, users, goal in ((20, 1, 8.0), (50, 1, 14.0), (20, 8, 0.0)):
        past = histories(table, users)
        call = generated(whole, text, model, table, past, beam)
        config = SearchConfig(beam=beam)

        def search(
            normaliser: str, config: SearchConfig = config, past: Histories = past, beam: int = beam
        ) -> np.ndarray:
            return BeamSearch(decoder, table, config, normaliser)(past, beam)[0]

        ways = {"ours": lambda: search("vocabulary"), "code head": lambda: search("children"), "generate": call}
        same = agreement(ways["ours"](), ways["generate"]())
        spent = in_turn(ways, given.rounds, warm=False)
        steps = beam * (POSITIONS - 1)
        own = tokens - len(decoder.instruction)  # the instruction was read when the decoder was made
        bound = (beam * tokens + steps) / (own + steps)
        counted = f"tokens through the layers: ({beam} x {tokens} + {steps}) / ({own} + {steps})"
        what = f"beam search, {users} user{'s' * (users > 1)}, beam {beam}"
        target = goal or 0.8 * (beam * tokens + steps) / (tokens + steps)  # of the bound without that instruction
        rows.append(row(what, spent["ours"], spent["generate"], bound=bound, counted=counted, goal=target, same=same))
        rows.append(
            row(
                f"{what}, probabilities over children", spent["code head"], spent["generate"], bound=bound,
                counted=f"{counted}; without the text head, and nodes of one leaf not read", goal=max(10.0, goal),
                same="another normaliser than generate's",
            )
        )  # fmt: skip
    alone = [rows[0], rows[2]]  # of one user
    both = {"history_once": [one["ours"] for one in alone], "generate": [one["other"] for one in alone]}
    grows = curve("search for one user", "beams", "seconds", [20, 50], **both)
    write("beam_search", given, rows, items=len(table), history_tokens=tokens, curves=[grows])


if __name__ == "__main__":
    main()
