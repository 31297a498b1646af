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
            vectors[:, (place + 1) * len(model.sizes) - 1] += model.items.inputs[items[:, place]]
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
        outputs = model.items.outputs + sum(
            model.code_outputs[int(start) + model.tree.item_codes[:, p]] for p, start in enumerate(model.starts[:-1])
        )
        rows[user] = (outputs @ hidden[0, 0]).double().log_softmax(-1).numpy()
    return codes, rows


@pytest.mark.parametrize("rank", [None, 3])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_search_ranks_by_the_weighted_mean_of_both(family, load_backbone, weight, rank):
    world = worlds.make(load_backbone(family), item_rows=True, item_rank=rank)
    assert float(world.model.items.inputs.abs().sum()) > 0
    assert float(world.model.items.outputs.abs().sum()) > 0
    config = SearchConfig(beam=40, batch_users=2, item_weight=weight)
    items, scores = BeamSearch(Decoder(world.model), world.table, config, "children")(world.histories, 40)
    codes, rows = both(world, world.histories)
    expected = (1 - weight) * codes + weight * rows
    for user in range(len(world.histories)):
        assert sorted(items[user]) == list(range(40))
        np.testing.assert_allclose(scores[user], expected[user][items[user]], atol=5e-4)


@pytest.mark.parametrize("own", [False, True])
def test_a_narrow_search_looks_ahead_by_the_items_own_scores(family, load_backbone, own):
    """A node promises its best item: as many beams as items asked for are then exact where items' own scores decide."""
    world = worlds.make(load_backbone(family), item_rows=True)
    k = 4
    _, rows = both(world, world.histories)
    if own:
        for user in range(len(world.histories)):
            rows[user, world.histories.sequence(user)] = -np.inf
    best = np.sort(rows, axis=1)[:, ::-1][:, :k]
    config = SearchConfig(beam=k, item_weight=1.0)
    items, scores = BeamSearch(Decoder(world.model), world.table, config, "children")(world.histories, k, own=own)
    np.testing.assert_allclose(scores, best, atol=5e-4)
    np.testing.assert_allclose(np.take_along_axis(rows, items, axis=1), best, atol=5e-4)
    # the codes alone lead elsewhere: without looking ahead these items are not found
    blind = SearchConfig(beam=k, item_weight=0.0)
    other, _ = BeamSearch(Decoder(world.model), world.table, blind, "children")(world.histories, k, own=own)
    assert not np.array_equal(np.sort(items, axis=1), np.sort(other, axis=1))


@pytest.mark.parametrize("rank", [None, 3])
def test_the_loss_is_that_of_codes_and_items(load_backbone, rank):
    world = worlds.make(load_backbone("llama"), item_rows=True, item_rank=rank)
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


@pytest.mark.parametrize(
    ("changes", "held"),
    [({}, "own_item_outputs"), ({"tie_codes": True}, "item_inputs"), ({"item_rank": 3}, "item_factors")],
)
def test_output_rows_of_items_without_events_stay_zero(load_backbone, changes, held):
    world = worlds.make(load_backbone("llama"), item_rows=True, **changes)
    model = world.model
    counts = np.ones(40, np.int64)
    counts[[7, 30]] = 0
    model.train_only_own()
    model.hold_unseen(counts)
    items = torch.as_tensor([[3, 17, 5, 8]])
    words = torch.as_tensor(world.backbone.encode(["Next:"], max_tokens=99, begin=True).flat)[None]
    batch = {"context": words, "context_lengths": torch.tensor([words.shape[1]]), "items": items}
    model(targets=torch.ones_like(items, dtype=torch.bool), **batch)["loss"].backward()
    rows = getattr(model.items, held)
    assert (rows.grad.abs().sum(1) == 0).nonzero()[:, 0].tolist() == [7, 30]


def test_rows_of_zero_change_no_code_and_unseen_items_keep_them(load_backbone):
    world = worlds.make(load_backbone("llama"), item_rows=True)
    with torch.no_grad():
        world.model.items.item_inputs.zero_()
    found, _ = BeamSearch(Decoder(world.model), world.table, SearchConfig(beam=40, item_weight=0.0), "children")(
        world.histories, 40
    )
    exact = worlds.exact_scores(world, world.histories, "children")
    ordered = np.take_along_axis(exact, found, axis=1)
    assert (np.diff(ordered, axis=1) <= 2e-4).all()


@pytest.mark.parametrize("ranked", [False, True])
def test_rows_start_at_zero_or_where_neighbours_put_them(load_backbone, ranked):
    changes = {"item_rows": True, "item_rank": load_backbone("llama").width if ranked else None}
    world = worlds.make(load_backbone("llama"), item_start="cooccurrence", **changes)
    model, backbone = world.model, world.backbone
    histories = worlds.histories(30, 60)  # of 40 items, the last ten are in none
    model.start_items(histories)
    rows = model.items.inputs.detach()
    assert (rows.abs().sum(1) < 1e-6).nonzero()[:, 0].tolist() == list(range(30, 40))
    assert float(rows[:30].square().mean().sqrt()) == pytest.approx(backbone.word_rms(), rel=1e-4)
    again = worlds.make(load_backbone("llama"), item_start="cooccurrence", **changes).model
    again.start_items(histories)
    assert torch.equal(again.items.inputs, rows)
    plain = worlds.make(load_backbone("llama"), **changes).model
    before = plain.items.inputs.clone()
    plain.start_items(histories)
    assert torch.equal(plain.items.inputs, before)


def test_vectors_of_a_rank_lie_in_it_and_all_of_them_learn(load_backbone):
    world = worlds.make(load_backbone("llama"), item_rows=True, item_rank=3)
    model = world.model
    assert torch.linalg.matrix_rank(model.items.inputs) == torch.linalg.matrix_rank(model.items.outputs) == 3
    model.train_only_own()
    items = torch.as_tensor([[3, 17, 5, 8]])
    words = torch.as_tensor(world.backbone.encode(["Next:"], max_tokens=99, begin=True).flat)[None]
    batch = {"context": words, "context_lengths": torch.tensor([words.shape[1]]), "items": items}
    model(targets=torch.ones_like(items, dtype=torch.bool), **batch)["loss"].backward()
    for name, parameter in model.items.trained().items():
        assert name in model.state_dict() or f"items.{name}" in model.state_dict()
        assert float(parameter.grad.abs().sum()) > 0


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


def test_dropout_of_items_leaves_some_to_their_codes_in_training_only(load_backbone):
    world = worlds.make(load_backbone("llama"), item_rows=True, item_dropout=0.4)
    model = world.model
    whole, bare = model.item_rows.detach(), model.item_rows.detach() - model.items.outputs.detach()
    items = torch.arange(40)[None]
    read = model.history_tokens(items)
    model.train()
    told = model.item_rows.detach()
    kept = (told == whole).all(dim=1)
    assert torch.equal(told[~kept], bare[~kept]) or torch.allclose(told[~kept], bare[~kept], atol=1e-6)
    assert 5 < int(kept.sum()) < 38
    again = (model.item_rows.detach() == whole).all(dim=1)
    assert not torch.equal(kept, again)  # drawn anew
    last = len(model.sizes) - 1  # an item's own vector is added to its last code
    own = model.history_tokens(items).unflatten(1, (40, -1))[0, :, last] == read.unflatten(1, (40, -1))[0, :, last]
    assert 5 < int(own.all(dim=1).sum()) < 38
    model.eval()
    assert torch.equal(model.item_rows.detach(), whole)
    assert torch.equal(model.history_tokens(items), read)
