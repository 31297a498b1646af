"""Judgements whose rule only text shows: a user keeps to one word, and likes an item exactly when it has that word."""

import numpy as np
import polars as pl

from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.data.judgements import Candidates, Judgements, JudgementSplit
from storerec.systems.scorer import Scorer
from storerec.systems.text_prompt import TextPromptConfig

WORDS = ["A", "B"]  # one token each in the tiny vocabularies
SHORT = TextPromptConfig(
    max_history=3, instruction="Has:", candidate="New:", question="Fits?", answer="Answer:", no_history="none"
)


def catalogue(items=40):
    titles = [f"{WORDS[i % len(WORDS)]} {i // len(WORDS)}" for i in range(items)]
    sizes = ["", "big"] * (items // 2)
    return Catalogue.from_frame(
        pl.DataFrame({"item_id": [f"i{i}" for i in range(items)], "title": titles, "size": sizes})
    )


def judgements(groups, items=40, *, seed=0, candidates=(3, 7), empty=False):
    rng = np.random.default_rng(seed)
    word = rng.integers(len(WORDS), size=groups)
    lengths = rng.integers(0 if empty else 1, 5, size=groups)
    history = np.repeat(word, lengths) + len(WORDS) * rng.integers(items // len(WORDS), size=lengths.sum())
    users = [f"{seed}-{u}" for u in range(groups)]
    histories = Histories.from_arrays(users, np.concatenate([[0], np.cumsum(lengths)]), history)
    counts = rng.integers(*candidates, size=groups)
    liked = rng.random(counts.sum()) < 0.5
    other = (np.repeat(word, counts) + rng.integers(1, len(WORDS), size=counts.sum())) % len(WORDS)
    chosen = np.where(liked, np.repeat(word, counts), other)
    rows = chosen + len(WORDS) * rng.integers(items // len(WORDS), size=counts.sum())
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return Judgements(Candidates(histories, offsets, rows), liked)


def split(groups=96):
    return JudgementSplit(judgements(groups, seed=1), judgements(32, seed=2), judgements(40, seed=3))


def check_scorer(scorer, candidates):
    """What the protocol promises."""
    assert isinstance(scorer, Scorer)
    assert scorer.name
    scores = scorer.score(candidates)
    assert scores.shape == candidates.items.shape
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores, scorer.score(candidates))
    order = np.arange(len(candidates))[::-1]
    for chosen in (order, order[:1], order[1:4]):
        part = scorer.score(candidates.select(chosen))
        np.testing.assert_allclose(part, scores[candidates.places(chosen)], rtol=1e-4, atol=1e-6)
    alone = Candidates(
        candidates.histories.select([2]), np.array([0, 1]), candidates.items[candidates.offsets[2] :][:1]
    )
    np.testing.assert_allclose(scorer.score(alone), scores[candidates.offsets[2]], rtol=1e-4, atol=1e-6)
    assert scorer.score(candidates.select(np.zeros(0, np.int64))).shape == (0,)
    bare = Candidates(candidates.histories, np.zeros(len(candidates) + 1, np.int64), np.zeros(0, np.int32))
    assert scorer.score(bare).shape == (0,)
