"""Searching in 8-bit integers and in bfloat16 against float32: how much faster, and how many of the ten items stay.

    python -m benchmarks.precision --out runs/bench
    python -m benchmarks.precision --run runs/demo --users 200 --emulated 1 --out runs/bench

SmolLM2-135M on all layers as in benchmarks.beam_search, whose probabilities are nearly even since it was not trained:
lists differ most there. With ``--run`` a run folder's own recommender and test users are searched instead. bfloat16 is
measured where the processor multiplies it; elsewhere it is emulated, slow, and measured with ``--emulated 1`` alone.
The bound is that of weights read, by their bytes. Overlap@10 is the share of float32's ten items that the other list of
ten has too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.beam_search import build, histories
from benchmarks.harness import arguments, in_turn, row, write
from storerec.codes import CodeTable
from storerec.config import RunOptions
from storerec.data.histories import Histories
from storerec.llm.precision import cpu_multiplies_bfloat16
from storerec.recommender import BeamSearch, Decoder, Recommender, SearchConfig

OPTIONS = RunOptions(device="cpu", progress=False)


def world(run: str, users: int) -> tuple[Recommender, CodeTable, SearchConfig, Histories, str]:
    """Model, table, search settings, histories, and what to call them."""
    if not run:
        model, table = build(OPTIONS)
        return model, table, SearchConfig(beam=20), histories(table, users), "untrained, 30 layers"
    from storerec.pipeline import RunFolder

    folder = RunFolder.open(Path(run), OPTIONS)
    test = folder.split.test.histories
    some = test.select(np.linspace(0, len(test) - 1, min(users, len(test))).astype(int))
    layers = folder.config.recommender.layers
    return (
        folder.recommender,
        folder.table,
        folder.config.search,
        some,
        f"trained ({Path(run).name}), {layers or 'all'} layers",
    )


def main() -> None:
    """Measure."""
    given = arguments(
        __doc__,
        users=(16, "users"),
        run=("", "run folder of a trained recommender"),
        emulated=(0, "1: bfloat16 too where this processor emulates it, for its overlap"),
    )
    model, table, config, past, name = world(given.run, given.users)
    ways: dict[str, dict[str, Any]] = {"float32": {}, "int8": {"int8": True}}
    native = cpu_multiplies_bfloat16()
    if native or given.emulated:
        ways["bfloat16"] = {"inference_dtype": "bfloat16"}
    calls = {}
    for way, settings in ways.items():
        decoder = Decoder.under(model, OPTIONS.model_copy(update=settings))
        search = BeamSearch(decoder, table, config, model.settings.normaliser)
        calls[way] = lambda search=search, users=past: search(users, 10)[0]
    lists = {way: call() for way, call in calls.items()}
    first = past.select(np.arange(1))
    alone = {way: lambda call=call: call(users=first) for way, call in calls.items()}
    spent = in_turn(alone, given.rounds)
    lines = []
    for way in list(ways)[1:]:
        same = [len(np.intersect1d(a, b)) / 10 for a, b in zip(lists[way], lists["float32"], strict=True)]
        real = native or way != "bfloat16"
        lines.append(
            row(
                f"search in {way}, {name}", spent[way], spent["float32"], bound=4.0 if way == "int8" else 2.0,
                goal=1.0 if real else 0.0, counted="bytes of the weights" if real else "emulated here: overlap alone",
                overlap=float(np.mean(same)), same=f"overlap@10 {np.mean(same):.3f} over {len(past)} users",
            )
        )  # fmt: skip
    write("precision_trained" if given.run else "precision", given, lines, "precision")


if __name__ == "__main__":
    main()
