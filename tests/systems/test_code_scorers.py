"""Scorers over codes and the trivial ones: their numbers, and independence of what else is in a call."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from storerec.config import RunOptions
from storerec.data import Candidates, Histories, Judgements
from storerec.errors import DataError
from storerec.recommender import Decoder
from storerec.recommender.scoring import CodeScorer, ScorerConfig
from storerec.systems.code_scorer import CodeScorerSystem, LikelihoodScorer
from storerec.systems.scorer import Scorer
from storerec.systems.scorer_baselines import ClickRateScorer, LastItemScorer, PopularityScorer
from tests.recommender import worlds
from tests.recommender.test_scoring import random_candidates

DOUBLE = RunOptions(device="cpu", dtype="float64", inference_dtype="float64", progress=False)


def check_scorer(scorer, candidates, *, atol=0.0):
    """The promises of the protocol: finite, repeatable, and each candidate by its own group alone."""
    assert isinstance(scorer, Scorer)
    scores = scorer.score(candidates)
    assert scores.shape == candidates.items.shape
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scorer.score(candidates), scores)
    order = np.random.default_rng(0).permutation(len(candidates))
    np.testing.assert_allclose(scorer.score(candidates.select(order)), scores[candidates.places(order)], atol=atol)
    for group in (0, len(candidates) - 1):
        one = candidates.select(np.array([group]))
        np.testing.assert_allclose(scorer.score(one), scores[candidates.places(np.array([group]))], atol=atol)
    assert scorer.score(candidates.select(np.zeros(0, int))).shape == (0,)


@pytest.mark.parametrize("normaliser", ["children", "position", "vocabulary"])
def test_likelihood_is_the_probability_of_the_codes_by_teacher_forcing(family, load_backbone, normaliser):
    world = worlds.make(load_backbone(family, "float64"), normaliser=normaliser)
    candidates = random_candidates()
    scorer = LikelihoodScorer(Decoder.under(world.model, DOUBLE), world.table)
    exact = worlds.exact_scores(world, candidates.histories, normaliser)[candidates.groups, candidates.items]
    np.testing.assert_allclose(scorer.score(candidates), exact, rtol=1e-6)
    check_scorer(scorer, candidates, atol=1e-6)


def test_long_groups_are_cut_without_a_difference(load_backbone, monkeypatch):
    world = worlds.make(load_backbone("gpt2", "float64"))
    candidates = random_candidates()
    scorer = LikelihoodScorer(Decoder.under(world.model, DOUBLE), world.table)
    whole = scorer.score(candidates)
    monkeypatch.setattr("storerec.systems.code_scorer._PACKED", 2)
    monkeypatch.setattr("storerec.systems.code_scorer._CELLS", 1)
    np.testing.assert_allclose(scorer.score(candidates), whole, rtol=1e-6)


def test_yes_and_no_are_probabilities(load_backbone):
    world = worlds.make(load_backbone("opt", "float64"))
    model = CodeScorer(world.model, ScorerConfig(tuning="head", max_history=5)).requires_grad_(False).eval()
    scorer = CodeScorerSystem(model, DOUBLE, name="tiger")
    scores = scorer.score(random_candidates())
    assert ((scores > 0) & (scores < 1)).all()
    assert scorer.name == "tiger"
    check_scorer(scorer, random_candidates(), atol=1e-7)


TRAIN = Histories.from_arrays(["a", "b"], np.array([0, 4, 6]), np.array([0, 1, 0, 1, 2, 0]))
SHOWN = Candidates(
    Histories.from_arrays(["x", "y", "z"], np.array([0, 2, 2, 3]), np.array([2, 0, 2])),
    np.array([0, 4, 6, 8]),
    np.array([0, 1, 2, 3, 0, 2, 0, 1]),
)


def test_popularity_and_last_item():
    popularity, last = PopularityScorer.fit(TRAIN, 4), LastItemScorer.fit(TRAIN, 4)
    assert popularity.score(SHOWN).tolist() == [3, 2, 1, 0, 3, 1, 3, 2]
    # after 0 came 1 twice; b's 2 after a's 1 is no pair; after 2 came 0 once
    expected = [0.75, 2.5, 0.25, 0, 0.75, 0.25, 1.75, 0.5]
    np.testing.assert_allclose(last.score(SHOWN), expected)
    check_scorer(popularity, SHOWN)
    check_scorer(last, SHOWN)
    alone = Histories.from_arrays(["a"], np.array([0, 1]), np.array([2]))
    np.testing.assert_allclose(LastItemScorer.fit(alone, 4).score(SHOWN), [0, 0, 0.5, 0, 0, 0.5, 0, 0])
    with pytest.raises(DataError):
        PopularityScorer.fit(TRAIN, 2)


def test_click_rates_rank_items_as_they_were_chosen():
    labels = np.array([1, 0, 0, 0, 1, 1, 1, 0], bool)
    scorer = ClickRateScorer.fit(Judgements(SHOWN, labels), 5, smoothing=1.0)
    assert scorer.rates.tolist() == pytest.approx([3.5 / 4, 0.5 / 3, 1.5 / 3, 0.5 / 2, 0.5])
    assert roc_auc_score(labels, scorer.score(SHOWN)) > 0.9
    check_scorer(scorer, SHOWN)
    with pytest.raises(DataError):
        ClickRateScorer.fit(Judgements(SHOWN, labels), 3)
