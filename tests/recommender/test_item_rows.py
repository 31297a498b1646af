"""Items' own rows beside their codes."""

import numpy as np
import pytest
import torch

from storerec.data.histories import Histories
from storerec.recommender import BeamSearch, Decoder, SearchConfig
from tests.recommender import worlds


def both(world, histories):
    """(users, items) log-probabilities by codes and by rows, item after item: no search, no cache."""
    model, n = world.model, len(world.table)
    model.use_adapters()
    instruction = torch.as_tensor(
        world.backbone.encode([model.settings.prompts.sequence], max_tokens=999, begin=True).flat
    )
    codes = np.empty((len(histories), n))
    rows = np.empty((len(histories), n))
    for user in range(len(histories)):
        past = torch.as_tensor(histories.sequence(user)[-model.settings.max_history :].astype(np.int64))
        items = torch.cat([past.expand(n, -1), torch.arange(n)[:, None]], dim=1)  # (items, history + 1)
        flat = (model.tree.item_codes[items] + model.offsets).flatten(1)
        vectors = model.code_inputs[flat].clone()  # (items, codes, width)
        for place in range(items.shape[1]):
            vectors[:, (place + 1) * len(model.sizes) - 1] += model.item_inputs[items[:, place]]
        words = model.backbone.embed(instruction.expand(n, -1))
        whole = torch.cat([words, vectors], dim=1)[:, :-1]
        hidden = model.run(whole, torch.arange(whole.shape[1]).expand(n, -1))[:, -len(model.sizes) :]
        total = torch.zeros(n, dtype=torch.float64)
        for position, size in enumerate(model.sizes):
            answer = model.tree.item_codes[:, position]
            nodes = model.tree.node_of(position, torch.arange(n))
            logits = model.logits(hidden[:, position], position).double()
            logits = logits.masked_fill(model.tree.children(position, nodes) < 0, -torch.inf)
            assert logits.shape == (n, size)
            total += logits.log_softmax(-1).gather(1, answer[:, None])[:, 0]
        codes[user] = total.numpy() + world.table.shares
        outputs = model.item_outputs + sum(
            model.code_outputs[int(start) + model.tree.item_codes[:, p]] for p, start in enumerate(model.starts[:-1])
        )
        rows[user] = (outputs @ hidden[0, 0]).double().log_softmax(-1).numpy()
    return codes, rows


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_search_ranks_by_the_weighted_mean_of_both(family, load_backbone, weight):
    world = worlds.make(load_backbone(family), item_rows=True)
    assert float(world.model.item_inputs.abs().sum()) > 0
    config = SearchConfig(beam=40, batch_users=2, item_weight=weight)
    items, scores = BeamSearch(Decoder(world.model), world.table, config, "children")(world.histories, 40)
    codes, rows = both(world, world.histories)
    expected = (1 - weight) * codes + weight * rows
    for user in range(len(world.histories)):
        assert sorted(items[user]) == list(range(40))
        np.testing.assert_allclose(scores[user], expected[user][items[user]], atol=5e-4)


def test_the_loss_is_that_of_codes_and_items(load_backbone):
    world = worlds.make(load_backbone("llama"), item_rows=True)
    model, past = world.model, world.histories.tail(5)
    length = int(past.lengths.max())
    user = int(np.argmax(past.lengths))
    items = torch.as_tensor(past.sequence(user).astype(np.int64))[None]
    last = torch.zeros((1, length), dtype=torch.bool)
    last[0, -1] = True
    words = world.backbone.encode([model.settings.prompts.sequence], max_tokens=999, begin=True).flat
    batch = {"context": torch.as_tensor(words)[None], "context_lengths": torch.tensor([len(words)])}
    loss = model(items=items, targets=last, **batch)["loss"]
    before = Histories.from_arrays(["u"], np.array([0, length - 1]), items[0, :-1].numpy().astype(np.int32))
    codes, rows = both(world, before)
    target = int(items[0, -1])
    share = world.table.shares[target]
    assert float(loss) == pytest.approx(-(codes[0, target] - share + rows[0, target]) / len(model.sizes), abs=1e-4)


@pytest.mark.parametrize("tied", [False, True])
def test_output_rows_of_items_without_events_stay_zero(load_backbone, tied):
    world = worlds.make(load_backbone("llama"), item_rows=True, tie_codes=tied)
    model = world.model
    counts = np.ones(40, np.int64)
    counts[[7, 30]] = 0
    model.train_only_own()
    model.hold_unseen(counts)
    items = torch.as_tensor([[3, 17, 5, 8]])
    words = torch.as_tensor(world.backbone.encode(["Next:"], max_tokens=99, begin=True).flat)[None]
    batch = {"context": words, "context_lengths": torch.tensor([words.shape[1]]), "items": items}
    model(targets=torch.ones_like(items, dtype=torch.bool), **batch)["loss"].backward()
    rows = model.item_inputs if tied else model.own_item_outputs
    assert (rows.grad.abs().sum(1) == 0).nonzero()[:, 0].tolist() == [7, 30]


def test_rows_of_zero_change_no_code_and_unseen_items_keep_them(load_backbone):
    world = worlds.make(load_backbone("llama"), item_rows=True)
    with torch.no_grad():
        world.model.item_inputs.zero_()
    found, _ = BeamSearch(Decoder(world.model), world.table, SearchConfig(beam=40, item_weight=0.0), "children")(
        world.histories, 40
    )
    exact = worlds.exact_scores(world, world.histories, "children")
    ordered = np.take_along_axis(exact, found, axis=1)
    assert (np.diff(ordered, axis=1) <= 2e-4).all()


def test_rows_start_at_zero_or_where_neighbours_put_them(load_backbone):
    world = worlds.make(load_backbone("llama"), item_rows=True, item_start="cooccurrence")
    model, backbone = world.model, world.backbone
    histories = worlds.histories(30, 60)  # of 40 items, the last ten are in none
    model.start_items(histories)
    rows = model.item_inputs.detach()
    assert (rows.abs().sum(1) == 0).nonzero()[:, 0].tolist() == list(range(30, 40))
    assert float(rows[:30].square().mean().sqrt()) == pytest.approx(backbone.word_rms(), rel=1e-4)
    again = worlds.make(load_backbone("llama"), item_rows=True, item_start="cooccurrence").model
    again.start_items(histories)
    assert torch.equal(again.item_inputs, rows)
    plain = worlds.make(load_backbone("llama"), item_rows=True).model
    before = plain.item_inputs.clone()
    plain.start_items(histories)
    assert torch.equal(plain.item_inputs, before)


def test_dropout_inside_layers_acts_in_training_only(family, load_backbone):
    world = worlds.make(load_backbone(family), residual_dropout=0.5)
    plain = worlds.make(load_backbone(family))
    words = torch.as_tensor(world.backbone.encode(["Next:"], max_tokens=99, begin=True).flat)[None]
    arguments = words, torch.tensor([words.shape[1]]), torch.tensor([[3, 17, 5, 8]])
    with torch.no_grad():
        expected = plain.model.code_hidden(*arguments)
        assert torch.equal(world.model.code_hidden(*arguments), expected)
        world.model.train()
        drawn = [world.model.code_hidden(*arguments) for _ in range(2)]
    assert not torch.equal(*drawn)
