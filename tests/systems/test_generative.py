"""Every model that generates codes keeps the promises of systems."""

import numpy as np
import pytest

from storerec.codes import CodeTable, CodeTree
from storerec.config import RunOptions
from storerec.data.histories import Histories
from storerec.recommender import (
    Recommender,
    RecommenderConfig,
    SearchConfig,
    TransformerConfig,
    TransformerDecoder,
    TransformerRecommender,
)
from storerec.systems.base import Exclusions
from storerec.systems.generative import GenerativeSystem
from storerec.systems.store import StoreSystem
from tests.systems.conformance import check_system, check_valid

ITEMS, SIZES = 25, (4, 3, 5)
OPTIONS = RunOptions(device="cpu", progress=False)
TABLES = ["tuples", "unique ids"]


def table_of(kind):
    if kind == "unique ids":  # P5: every item is a token of its own
        return CodeTable.build(np.arange(ITEMS, dtype=np.int32)[:, None], (ITEMS,))
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, size, ITEMS) for size in SIZES], axis=1).astype(np.int32)
    return CodeTable.build(codes, SIZES, counts=rng.integers(0, 9, ITEMS))


def users(seed=0, count=12):
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 8, count))])
    return Histories.from_arrays(
        [f"u{u}" for u in range(count)], offsets, rng.integers(0, ITEMS, offsets[-1]).astype(np.int32)
    )


def transformer_system(kind, *, seed=0, beam=8, constraint="tree", **changes):
    table = table_of(kind)
    small = {"layers": 1, "heads": 2, "head_width": 8, "width": 16, "feed_forward": 16, "max_history": 5}
    model = TransformerRecommender(CodeTree.from_table(table), TransformerConfig(**small | changes), seed=seed)
    model.requires_grad_(False).eval()
    search = SearchConfig(beam=beam, batch_users=5, constraint=constraint)
    return GenerativeSystem("tiger", TransformerDecoder(model), table, search, model.settings.normaliser)


def llm_system(backbone, kind, *, beam=8, constraint="tree", **changes):
    """Without a tokenizer's adapter and without cluster means, as the systems beside STORE start."""
    table = table_of(kind)
    config = RecommenderConfig(max_history=5, output_scale=1.0, **{"lora": {"rank": 2}} | changes)
    model = Recommender(backbone, config, CodeTree.from_table(table), None)
    model.requires_grad_(False).eval()
    return StoreSystem(
        model, table, SearchConfig(beam=beam, batch_users=5, constraint=constraint), OPTIONS, name="another"
    )


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("changes", [{}, {"encoder": "bidirectional", "recency": False, "normaliser": "vocabulary"}])
def test_conformance_of_the_transformer(kind, changes):
    check_system(transformer_system(kind, **changes), users(), ITEMS)


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("changes", [{}, {"tuning": "full", "layers": 2, "normaliser": "position"}])
def test_conformance_of_the_language_model(load_backbone, kind, changes):
    check_system(llm_system(load_backbone(), kind, **changes), users(), ITEMS)


def soft_systems(load_backbone):
    return [
        transformer_system("tuples", constraint="soft"),
        llm_system(load_backbone(), "tuples", constraint="soft"),
    ]


def test_soft_lists_hold_items_only_and_may_be_short(load_backbone):
    for system in soft_systems(load_backbone):
        lists = system.recommend(users(), 10, exclude=Exclusions(history=True))
        found = (lists.items >= 0).sum(axis=1)
        assert found.min() < 10, "25 of 60 tuples name items: ten beams cannot all hit"
        for user in range(len(lists)):
            row = slice(user, user + 1)
            one = type(lists)(lists.items[row, : found[user]], lists.scores[row, : found[user]])
            check_valid(one, 1, ITEMS, int(found[user]))
            assert (lists.items[user, found[user] :] == -1).all()
            assert not set(lists.items[user, : found[user]]) & set(users().sequence(user))
        again = system.recommend(users(), 10, exclude=Exclusions(history=True))
        np.testing.assert_array_equal(again.items, lists.items)


def test_unique_ids_lose_nothing_to_a_soft_constraint(load_backbone):
    """Every code of one position is an item: no tuple names none (but what is excluded still takes up beams)."""
    for make in (transformer_system, lambda kind, **changes: llm_system(load_backbone(), kind, **changes)):
        check_system(make("unique ids", beam=ITEMS, constraint="soft", normaliser="position"), users(), ITEMS, k=5)


def test_names(load_backbone):
    assert transformer_system("tuples").name == "tiger"
    assert llm_system(load_backbone(), "unique ids").name == "another"
    model = llm_system(load_backbone(), "tuples")
    assert StoreSystem.own_batches
    assert model.own_batches
