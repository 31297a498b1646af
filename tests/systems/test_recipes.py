"""Every system as its recipe makes it keeps the promises of systems."""

import numpy as np
import pytest

from storerec.comparison.config import ComparisonConfig
from storerec.comparison.models import LANGUAGE_MODEL, take_up
from storerec.comparison.trial import Trial
from storerec.data.splits import split
from storerec.systems.base import Exclusions
from storerec.systems.registry import RECIPES
from tests.systems import planted
from tests.systems.conformance import check_system

pytestmark = pytest.mark.filterwarnings("ignore::storerec.errors.StorerecWarning")


@pytest.fixture(scope="module")
def bench(tiny_backbone, tmp_path_factory):
    """One bench for all: stages that recipes share are made once, trainings last two steps."""
    world, config = planted.text_world(users=80), planted.settings(tiny_backbone(), steps=2)
    return world.bench(tmp_path_factory.mktemp("stages"), config)


# a soft constraint drops beams, so its lists may be short: tests/systems/test_generative.py has what these promise
@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.search != {"constraint": "soft"}])
def test_conformance(bench, name):
    users = split(bench.histories, planted.SPLIT, 0).test.histories.tail(5).select(np.arange(6))
    check_system(take_up(bench, RECIPES[name], Trial()), users, len(bench.catalogue), k=5)


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.search == {"constraint": "soft"}])
def test_soft_systems_return_existing_items_once(bench, name):
    users = split(bench.histories, planted.SPLIT, 0).test.histories
    lists = take_up(bench, RECIPES[name], Trial()).recommend(users, 10, exclude=Exclusions(history=True))
    for user, row in enumerate(lists.items):
        found = row[row >= 0]
        assert len(set(found.tolist())) == len(found)
        assert (row[len(found) :] == -1).all()
        assert not set(found.tolist()) & set(users.sequence(user).tolist())


def test_the_weight_of_items_rows_is_no_matter_of_systems_without_them(tiny_backbone, tmp_path):
    world = planted.text_world(users=80)
    identities = []
    for weight in (0.3, 0.8):
        values = planted.settings(tiny_backbone(), steps=2).model_dump()
        values["store"]["search"]["item_weight"] = weight
        values["own"] = {"store": {"item_rows": True}, "p5": {"item_rows": True}}
        one = world.bench(tmp_path, ComparisonConfig.parse(values, source="test"))
        identities.append([LANGUAGE_MODEL.identity(one, RECIPES[name], Trial()) for name in ("p5", "store")])
    (p5, store), (p5_again, store_again) = identities
    assert p5 == p5_again, "its recipe has no rows of items, so that its training is the same"
    assert store != store_again
