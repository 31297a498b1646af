"""The demo: the main job on real data with a real language model, explained as it goes (MovieLens-100K)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from storerec.config import RunOptions
from storerec.data.readers.movielens import movielens_100k
from storerec.llm.precision import pick_device, pick_dtype
from storerec.llm.progress import Progress
from storerec.pipeline.config import StoreConfig
from storerec.pipeline.evaluate import evaluate_run
from storerec.pipeline.folder import RunFolder
from storerec.pipeline.stages import cluster, tokenize, train
from storerec.pipeline.store import STORE


def run_demo(folder: Path, progress: Progress, options: RunOptions | None = None) -> None:
    """Fetch MovieLens-100K and SmolLM2-135M, fit, evaluate and recommend; everything stays in ``folder``.

    A finished stage is not repeated, so a second call only evaluates.
    """
    options = options or RunOptions()
    progress.say("1. Data: MovieLens-100K, 943 people's ratings of 1,682 films, as histories in time order.")
    catalogue, histories = movielens_100k()
    run = RunFolder.create(folder, catalogue, histories, demo_config(), options)
    counts = f"{len(catalogue):,} films ({', '.join(catalogue.attributes)}), {len(histories):,} people"
    progress.say(f"   {counts}; each person's last film is the test, the one before it validation.")
    device = pick_device(options)
    dtype = str(pick_dtype(options.dtype, device)).removeprefix("torch.")
    progress.say(f"   Model: SmolLM2-135M on {device}, training in {dtype}; run folder {folder}")
    layers = demo_config().recommender.layers
    stages: list[tuple[str, Callable[[RunFolder, Progress], None]]] = [
        (
            "2. Tokenize: the model learns to write a film's text back from 4 vectors, then encodes every film.",
            tokenize,
        ),
        ("3. Cluster: the vectors become 4 codes per film, its semantic ID.", cluster),
        (f"4. Recommend: the model's first {layers} layers learn to continue histories of codes.", train),
    ]
    for words, stage in stages:
        progress.say(words)
        started = time.monotonic()
        stage(run, progress)
        progress.say(f"   done in {(time.monotonic() - started) / 60:.1f} minutes")
    report = run.table.report()
    used = ", ".join(f"{p.used}/{p.size}" for p in report.positions)
    progress.say(
        f"   codes used per position {used}; {report.colliding_share:.0%} of films share all codes with another"
    )
    progress.say("5. Evaluate: every film ranked for every person, beside two simple baselines.")
    result = evaluate_run(run, progress=progress)
    for table in result.tables():  # bold marks the best values
        Console(highlight=False).print(table)
    _example(run)
    progress.say(f"Figures: {folder / 'evaluation.json'}; plots: {folder / 'plots'}; bundle: {folder / 'bundle'}")


def demo_config() -> StoreConfig:
    """The ``cpu`` preset with a time limit on each training, far off on the machines we measured.

    Two cores that multiply bfloat16 needed 13 minutes for the whole demo, tokenizing 4.3 and recommending 8.6, beside
    other work; the limits keep it under 20 on slower ones, with less training.
    """
    values = StoreConfig.preset("cpu").model_dump()
    values["tokenizer"]["training"]["max_minutes"] = 6
    values["recommender"]["joint"]["max_minutes"] = 3
    values["recommender"]["alone"]["max_minutes"] = 8
    return StoreConfig.parse(values, source="the demo's configuration")


def _example(run: RunFolder) -> None:
    """Ten recommendations for the first test user, from the saved bundle."""
    # titles are a user's text: square brackets and colons in them mean nothing
    console = Console(highlight=False, markup=False, emoji=False)
    store, cases = STORE.of_run(run), run.split.test
    history = cases.histories.sequence(0)
    titles, ids = run.catalogue.titles, run.catalogue.ids
    last = "; ".join(titles[int(row)] for row in history[-5:])
    console.print(f"\nPerson {cases.histories.user_ids[0]} last saw: {last}")
    table = Table("rank", "item", "title", "log-probability", "codes", title="What to watch next (unseen films)")
    recommended = store.recommend([ids[int(row)] for row in history], 10, exclude_history=True)
    for rank, one in enumerate(recommended, 1):
        table.add_row(str(rank), one.item_id, one.title, f"{one.score:.2f}", " ".join(map(str, one.codes)))
    console.print(table)
    target = int(cases.targets[0])
    console.print(f"In fact this person watched next: {titles[target]} (item {ids[target]})")
