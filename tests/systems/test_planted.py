"""Systems, made and trained by their recipes, in worlds whose answer is known: what each can learn, and cannot."""

import numpy as np
import pytest

from tests.systems import planted

pytestmark = pytest.mark.filterwarnings("ignore::storerec.errors.StorerecWarning")

KINDS, EACH = len(planted.WORDS), planted.MEMBERS + planted.COLD


class TextWorld:
    """Lists of ``EACH`` items, as many as are of the next item's kind: the ceiling is 1, for cold targets as well.

    A list of random items has a target with a chance of 1 in 8.
    """

    def __init__(self, backbone, folder):
        self.backbone, self.folder, self.world = backbone, folder, planted.text_world()
        self.test = self.world.test
        self.cold = self.test.targets >= KINDS * planted.MEMBERS

    def recalls(self, name, **recommender):
        """Recall of warm and of cold targets, and the share of list places with an item of the right kind."""
        config = planted.settings(self.backbone, **recommender)
        lists = self.world.lists(name, self.folder, config, EACH)
        hit = (lists == self.test.targets[:, None]).any(1)
        right = (lists >= 0) & (lists % KINDS == self.test.targets[:, None] % KINDS)
        return hit[~self.cold].mean(), hit[self.cold].mean(), right.mean()


@pytest.fixture(scope="module")
def text(tiny_backbone, tmp_path_factory):
    return TextWorld(tiny_backbone("llama"), tmp_path_factory.mktemp("text"))


def test_two_thirds_of_the_targets_are_in_nobodys_history(text):
    assert text.cold.mean() == pytest.approx(2 / 3)
    last = text.world.histories.offsets[1:] - 1
    before = np.delete(text.world.histories.items, last)
    assert not np.isin(text.test.targets[text.cold], before).any()
    assert np.isin(text.test.targets[~text.cold], before).all()


@pytest.mark.parametrize("name", ["tiger", "tiger-llm", "lc-rec", "store"])
def test_codes_of_text_reach_items_without_events(text, name):
    warm, cold, right = text.recalls(name)
    assert warm > 0.9
    assert cold > 0.7
    assert right > 0.9


def test_rows_of_items_leave_cold_items_to_their_codes(text):
    # long enough for rows to matter: when those of unseen items moved, 24 epochs cost an eighth of cold recall
    warm, cold, right = text.recalls("store", epochs=24, history="items", item_rows=True)
    assert warm > 0.9
    assert cold > 0.9
    assert right > 0.9


@pytest.mark.parametrize("name", ["markov", "sasrec", "p5"])
def test_ids_alone_do_not_reach_items_without_events(text, name):
    warm, cold, right = text.recalls(name)
    assert warm > 0.9
    assert cold < 1 / 8
    # they rank the kind's warm items first, and know nothing of what else belongs to it
    assert planted.MEMBERS / EACH - 0.05 < right < 0.85


def test_popularity_reaches_neither(text):
    warm, cold, right = text.recalls("popularity")
    assert warm < 0.4
    assert cold < 1 / 8
    assert right < 0.25


class OrderWorld:
    """Lists whose first item can always be right."""

    def __init__(self, backbone, folder):
        self.backbone, self.folder, self.world = backbone, folder, planted.order_world()

    def share_of_right_firsts(self, name):
        # items that shared codes could be told apart by popularity only
        config = planted.settings(self.backbone, policy="extra")
        return (self.world.lists(name, self.folder, config, 5)[:, 0] == self.world.test.targets).mean()


@pytest.fixture(scope="module")
def order(tiny_backbone, tmp_path_factory):
    return OrderWorld(tiny_backbone("llama"), tmp_path_factory.mktemp("order"))


@pytest.mark.parametrize("name", ["markov", "sasrec", "p5", "tiger", "tiger-llm", "lc-rec", "store"])
def test_the_order_of_ids_is_learned(order, name):
    assert order.share_of_right_firsts(name) > 0.9


def test_popularity_knows_no_order(order):
    assert order.share_of_right_firsts("popularity") < 0.2
