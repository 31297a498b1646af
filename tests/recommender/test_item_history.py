"""Histories of one token per item, with the codes as branches."""

import numpy as np
import pytest
import torch

from storerec.recommender import BeamSearch, Decoder, SearchConfig
from storerec.recommender.branches import branch_layout
from tests.recommender import worlds


@pytest.mark.parametrize("normaliser", ["children", "position", "vocabulary"])
def test_the_search_is_exact(family, load_backbone, normaliser):
    world = worlds.make(load_backbone(family), history="items")
    config = SearchConfig(beam=40, batch_users=2)
    items, scores = BeamSearch(Decoder(world.model), world.table, config, normaliser)(world.histories, 40)
    exact = worlds.exact_scores(world, world.histories, normaliser)  # teacher forcing through the branches
    for user in range(len(world.histories)):
        assert sorted(items[user]) == list(range(40))
        np.testing.assert_allclose(scores[user], exact[user][items[user]], atol=3e-4)


def test_branches_equal_sequences_written_out(family, load_backbone):
    """Each target's outputs are those of context, earlier items and its own codes in a plain causal row."""
    world = worlds.make(load_backbone(family), history="items", item_rows=True)
    model = world.model
    model.use_adapters()
    items = torch.as_tensor([[3, 17, 3, 8], [30, 1, 2, 39]])
    codes = model.tree.item_codes[items]
    context = torch.as_tensor([[5, 6, 7, 8], [9, 10, 11, 11]])
    lengths = torch.as_tensor([4, 3])  # the second row's context is padded
    found = model.code_hidden(context, lengths, items)
    for row in range(2):
        words = model.backbone.embed(context[row : row + 1, : lengths[row]])
        for target in range(4):
            past = model.history_tokens(items[row : row + 1, :target])
            own = model.code_inputs[codes[row, target, :-1] + model.offsets[:-1]][None]
            whole = torch.cat([words, past, own], dim=1)
            plain = model.run(whole, torch.arange(whole.shape[1])[None])[0, -len(model.sizes) :]
            torch.testing.assert_close(found[row, target], plain, atol=2e-4, rtol=1e-3)


def test_a_target_is_never_seen_by_its_own_prediction():
    places, seen = branch_layout(2, torch.tensor([2]), 3, 4, torch.arange(3))  # context 2, items 2, branches 3 x 3
    assert places.tolist() == [[0, 1, 2, 3, 2, 3, 4, 3, 4, 5, 4, 5, 6]]
    sees = [set(np.flatnonzero(row.numpy()).tolist()) for row in seen[0]]
    assert sees[3] == {0, 1, 2, 3}, "the second item sees the first"
    assert sees[4] == {0, 1, 4}, "the first item's branch sees no item"
    assert sees[9] == {0, 1, 2, 7, 8, 9}, "the second's sees the first item and itself"


def test_training_learns_and_gradients_reach_every_row(load_backbone):
    world = worlds.make(load_backbone("llama"), history="items", item_rows=True)
    model = world.model
    model.train_only_own()
    items = torch.as_tensor([[3, 17, 5, 8]])
    words = torch.as_tensor(world.backbone.encode(["Next:"], max_tokens=99, begin=True).flat)[None]
    batch = {"context": words, "context_lengths": torch.tensor([words.shape[1]]), "items": items}
    loss = model(targets=torch.ones_like(items, dtype=torch.bool), **batch)["loss"]
    loss.backward()
    own = model.items
    assert (own.item_inputs.grad.abs().sum(1) > 0).nonzero()[:, 0].tolist() == [3, 5, 17]  # the last is no input
    assert (own.own_item_outputs.grad.abs().sum(1) > 0).all()
    assert model.code_inputs.grad.abs().sum() > 0


def test_a_share_of_branches_gives_the_same_outputs_and_the_whole_loss_on_average(load_backbone):
    world = worlds.make(load_backbone("llama"), history="items", item_rows=True, code_share=0.3)
    model = world.model
    items = torch.as_tensor([[3, 17, 5, 8, 21, 30]])
    words = torch.as_tensor(world.backbone.encode(["Next:"], max_tokens=99, begin=True).flat)[None]
    lengths = torch.tensor([words.shape[1]])
    every = model.branched(words, lengths, items, torch.arange(6))
    some = model.branched(words, lengths, items, torch.tensor([1, 4]))
    torch.testing.assert_close(some[0], every[0], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(some[1], every[1][:, [1, 4]], atol=1e-4, rtol=1e-3)
    batch = {"context": words, "context_lengths": lengths, "items": items}
    told = torch.ones_like(items, dtype=torch.bool)
    whole = float(model(targets=told, **batch)["loss"])
    model.train()  # no dropout is configured
    torch.manual_seed(0)
    drawn = [float(model(targets=told, **batch)["loss"]) for _ in range(60)]
    assert np.std(drawn) > 0, "branches are drawn anew"
    assert np.mean(drawn) == pytest.approx(whole, rel=0.05)
