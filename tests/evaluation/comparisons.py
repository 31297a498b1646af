"""A small comparison for the tests: lists that hit their target with a known chance."""

from functools import cache

import numpy as np

from storerec.data.histories import Histories
from storerec.data.splits import Cases
from storerec.evaluation.config import EvaluationConfig
from storerec.evaluation.ranked import Cell, compare_cells
from storerec.evaluation.scored import ScoreCell, compare_scores

N, USERS, K = 60, 150, 20
CONFIG = EvaluationConfig(bootstrap_samples=200)
SETTINGS = {"command": "storerec compare --data x", "machine": "2 cores <4 GB>", "budgets": {"trials": 8}}
ODD = "better <&|_$%>"
"""A name that every format must escape."""


def make(sequences):
    offsets = np.cumsum([0, *map(len, sequences)])
    items = np.array([i for s in sequences for i in s], dtype=np.int32)
    return Histories.from_arrays([f"u{u}" for u in range(len(sequences))], offsets, items)


@cache
def world():
    """Training in which low rows are popular and the last never occur, and cases with any target."""
    rng = np.random.default_rng(0)
    chance = np.where(np.arange(N) < 50, 1 / (np.arange(N) + 2), 0)
    train = make([rng.choice(N, 8, p=chance / chance.sum()).tolist() for _ in range(USERS)])
    return train, Cases(train, rng.integers(0, N, USERS).astype(np.int32))


def lists(hit, seed):
    """Random lists; with chance ``hit`` the target is moved to a random place."""
    _, cases = world()
    rng = np.random.default_rng(seed)
    out = np.stack([rng.permutation(N) for _ in range(USERS)])
    for user in np.flatnonzero(rng.random(USERS) < hit):
        at, to = int(np.flatnonzero(out[user] == cases.targets[user])[0]), rng.integers(K)
        out[user, [at, to]] = out[user, [to, at]]
    return out[:, :K].astype(np.int32)


@cache
def cells():
    """A reference of three seeds, its copy under another name, a worse one without seeds, a better one."""
    tuple_of = (np.arange(N) // 2).astype(np.int32)
    popular = np.tile(np.arange(K, dtype=np.int32), (USERS, 1))
    made = {seed: lists(0.4, seed) for seed in (1, 2, 3)}
    return (
        *(Cell("store", s, made[s], tuple_of, 10.0 * s, 1.0, ("stopped early",) if s == 2 else ()) for s in made),
        Cell("popularity", 0, popular, None, 0.0, 0.1),
        *(Cell("twin", s, made[s], tuple_of, 50.0, 1.0) for s in made),
        *(Cell(ODD, s, lists(0.9, s + 10), None, 400.0, float("nan")) for s in (1, 2)),
    )


def compare(given=None, **changes):
    train, cases = world()
    options = {
        "n_items": N,
        "config": CONFIG,
        "seed": 7,
        "reference": "store",
        "failures": {"p5": "out of memory", "sasrec, seed 3": "not run"},
        "protocol": "leave_one_out",
        "split_notes": ("3 of 153 users have fewer than 3 items",),
        "settings": SETTINGS,
        "title": "Small & odd <comparison>",
        "flips": 500,
    }
    return compare_cells(cells() if given is None else given, cases, train, **(options | changes))


def judged():
    """Labels and offsets of 80 groups of 5 candidates and one without a positive."""
    rng = np.random.default_rng(1)
    labels = np.concatenate([np.stack([rng.permutation(5) < 2 for _ in range(80)]).ravel(), [False, False]])
    return labels, np.concatenate([np.arange(0, 401, 5), [402]])


def compare_judged(**changes):
    labels, offsets = judged()
    rng = np.random.default_rng(2)

    def scores(weight):
        return weight * labels + rng.random(len(labels))

    given = [ScoreCell("store", s, scores(0.5), 3.0) for s in (1, 2, 3)]
    given += [ScoreCell("zero-shot", 0, scores(0.0), 9.0), ScoreCell(ODD, 1, scores(2.0), float("nan"), ("cached",))]
    options = {
        "config": CONFIG,
        "seed": 7,
        "reference": "store",
        "failures": {"gpt": "no key"},
        "settings": SETTINGS,
        "title": "Scoring",
        "paper": {"store": {"auc": 0.6505}, "GPT-3.5": {"auc": 0.5057}},
        "flips": 500,
    }
    options |= changes
    return compare_scores(options.pop("cells", given), labels, offsets, **options)
