"""Validation between epochs."""

import numpy as np
import pytest

from storerec.data.splits import Cases
from storerec.recommender import BeamSearch, Decoder, SearchConfig
from storerec.recommender.training import validator
from tests.recommender import worlds


def test_it_measures_the_lists_of_a_narrow_search(load_backbone):
    world = worlds.make(load_backbone("llama"), items=120)
    histories = worlds.histories(120, 60, seed=4)
    narrow, wide = (
        BeamSearch(Decoder(world.model), world.table, SearchConfig(beam=beam), "children")(histories, 10)[0]
        for beam in (10, 120)
    )
    only_narrow = [next(iter(set(few) - set(many)), few[0]) for few, many in zip(narrow, wide, strict=True)]
    cases = Cases(histories, np.array(only_narrow, np.int32))
    found = {
        most: validator(
            lambda: Decoder(world.model), world.table, cases, SearchConfig(beam=120, validation_beam=most), "children"
        )()
        for most in (10, 120)
    }
    places = np.array([list(items).index(target) for items, target in zip(narrow, only_narrow, strict=True)])
    assert found[10]["recall@10"] == 1
    assert found[10]["ndcg@10"] == pytest.approx(np.mean(1 / np.log2(places + 2)))
    assert found[120]["recall@10"] < 1, "a wider search gives other lists here, so the two can be told apart"


def test_a_search_narrower_than_that_stays_as_it_is():
    assert SearchConfig(beam=7).in_validation == SearchConfig(beam=7)
    assert SearchConfig(beam=100, constraint="soft").in_validation == SearchConfig(beam=20, constraint="soft")
