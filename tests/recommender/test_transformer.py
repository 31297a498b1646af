"""The Transformer against transformers' own T5, item after item, and what it learns."""

import numpy as np
import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from storerec.codes import CodeTable, CodeTree
from storerec.config import RunOptions
from storerec.data.histories import Histories
from storerec.data.splits import leave_one_out
from storerec.errors import DataError
from storerec.llm.progress import Progress
from storerec.recommender import (
    BeamSearch,
    SearchConfig,
    TransformerConfig,
    TransformerDecoder,
    TransformerRecommender,
    train_transformer,
)
from storerec.recommender.transformer_training import TransformerSamples
from tests.recommender.worlds import SIZES, histories

SMALL = {"layers": 2, "heads": 2, "head_width": 8, "width": 16, "feed_forward": 32, "max_history": 5, "dropout": 0.0}
OPTIONS = RunOptions(device="cpu", progress=False)
QUIET = Progress(enabled=False)


def codes(items=40, policy="bucket"):
    rng = np.random.default_rng(1)
    drawn = np.stack([rng.integers(0, size, items) for size in SIZES], axis=1).astype(np.int32)
    return CodeTable.build(drawn, SIZES, policy=policy, counts=rng.integers(0, 9, items))


def build(table, *, seed=0, **changes):
    """Random weights, biases larger than they start, so that they matter."""
    model = TransformerRecommender(CodeTree.from_table(table), TransformerConfig(**SMALL | changes), seed=seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name or name == "recency":
                parameter.normal_()
    return model.requires_grad_(False).eval()


def with_empty(users=6, items=40):
    """Histories of unlike lengths, longer than what is read and empty ones among them."""
    some = histories(items, users, longest=8)
    stop = some.lengths.copy()
    stop[1] = 0
    return some.slice_each(np.zeros_like(stop), stop)


def hugging_face(model):
    """The same model as transformers has it: one vocabulary of two starts and all codes."""
    own = model.settings
    plain = T5ForConditionalGeneration(
        T5Config(
            vocab_size=2 + len(model.codes), d_model=own.width, d_kv=own.head_width, d_ff=own.feed_forward,
            num_layers=own.layers, num_heads=own.heads, dropout_rate=0.0, decoder_start_token_id=1,
        )
    )  # fmt: skip
    theirs, ours = dict(plain.named_parameters()), dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in ours.items():
            if name in theirs:
                theirs[name].copy_(parameter)
        plain.shared.weight.copy_(torch.cat([model.starts, model.codes]))
    assert set(ours) - set(theirs) == {"starts", "codes"}
    assert set(theirs) - set(ours) == {"shared.weight"}
    return plain.eval()


def exact_scores(plain, table, some, normaliser, max_history=5):
    """(users, items) log-probability of every item by transformers' own forward: no tree, no cache, no padding."""
    firsts = 2 + np.concatenate([[0], np.cumsum(SIZES)[:-1]])
    every = [tuple(row) for row in table.codes.tolist()]
    labels = torch.from_numpy(table.codes + firsts)
    result = np.empty((len(some), len(table)))
    for user in range(len(some)):
        past = table.codes[some.sequence(user)[-max_history:]] + firsts
        read = torch.tensor([[0, *past.ravel()]]).expand(len(table), -1)
        with torch.no_grad():
            logits = plain(input_ids=read, labels=labels).logits.double()  # (items, positions, vocabulary)
        for item, tuple_ in enumerate(every):
            total = 0.0
            for position, code in enumerate(tuple_):
                first = int(firsts[position])
                allowed = np.arange(2, logits.shape[-1])
                if normaliser == "position":
                    allowed = np.arange(first, first + SIZES[position])
                if normaliser == "children":
                    allowed = first + np.unique([t[position] for t in every if t[:position] == tuple_[:position]])
                row = logits[item, position]
                total += float(row[first + code] - row[torch.from_numpy(allowed)].logsumexp(0))
            result[user, item] = total + table.shares[item]
    return result


@pytest.mark.parametrize("normaliser", ["children", "position", "vocabulary"])
def test_a_beam_as_wide_as_the_catalogue_gives_the_order_of_transformers_own_model(normaliser):
    table = codes()
    model = build(table, recency=False, encoder="bidirectional", normaliser=normaliser)
    some = with_empty()
    search = BeamSearch(TransformerDecoder(model), table, SearchConfig(beam=40, batch_users=4), normaliser)
    items, scores = search(some, 40)
    exact = exact_scores(hugging_face(model), table, some, normaliser)
    for user in range(len(some)):
        assert sorted(items[user]) == list(range(40))
        np.testing.assert_allclose(scores[user], exact[user][items[user]], atol=2e-4)
        assert (np.diff(exact[user][items[user]]) <= 2e-4).all()


@pytest.mark.parametrize("changes", [{}, {"encoder": "bidirectional"}, {"recency": False}, {"tie_codes": False}])
def test_steps_over_the_tree_equal_one_pass_over_each_item(changes):
    table = codes()
    model, some = build(table, **changes), with_empty()
    items, scores = BeamSearch(TransformerDecoder(model), table, SearchConfig(beam=40, batch_users=9), "position")(
        some, 40
    )
    for user in range(len(some)):
        past = torch.from_numpy(some.sequence(user)[-5:].astype(np.int64))[None]
        hidden = torch.cat(
            [
                model.target_hidden(
                    model.encode(past, torch.tensor([past.shape[1]])),
                    torch.tensor([[past.shape[1]]]),
                    torch.tensor([[item]]),
                )[0]
                for item in range(40)
            ]
        )  # (items, positions, width)
        chosen = torch.from_numpy(table.codes.astype(np.int64))
        logs = [
            model.logits(hidden[:, position], position).log_softmax(-1).gather(1, chosen[:, position, None])[:, 0]
            for position in range(3)
        ]
        exact = torch.stack(logs).sum(0).numpy() + table.shares
        np.testing.assert_allclose(scores[user], exact[items[user]], atol=2e-4)


def test_a_window_of_a_causal_encoder_is_all_its_prefixes_at_once():
    """No target sees itself, a later item or another target."""
    table = codes()
    model, rng = build(table), np.random.default_rng(0)
    window = torch.from_numpy(rng.integers(0, 40, (1, 6)))
    at_once = model.target_hidden(
        model.encode(window[:, :-1], torch.tensor([5])), torch.arange(6)[None], window
    )  # (1, 6, positions, width)
    for place in range(6):
        past = window[:, :place]
        alone = model.target_hidden(
            model.encode(past, torch.tensor([place])), torch.tensor([[place]]), window[:, place, None]
        )
        torch.testing.assert_close(at_once[:, place], alone[:, 0], rtol=1e-4, atol=1e-5)


def test_the_loss_counts_told_targets_only_and_reads_no_padding():
    model = build(codes(), normaliser="vocabulary")
    batch = {
        "items": torch.tensor([[1, 2, 3], [4, 0, 0]]),
        "lengths": torch.tensor([3, 1]),
        "targets": torch.tensor([[1, 2, 3, 5], [4, 6, 0, 0]]),
        "visible": torch.tensor([[0, 1, 2, 3], [0, 1, 1, 1]]),
        "told": torch.tensor([[True] * 4, [True, True, False, False]]),
    }
    loss = model(**batch)["loss"]
    padding = batch | {
        "items": torch.tensor([[1, 2, 3], [4, 39, 38]]),
        "targets": torch.tensor([[1, 2, 3, 5], [4, 6, 37, 36]]),
    }
    assert float(model(**padding)["loss"]) == pytest.approx(float(loss), rel=1e-6)
    assert float(model(**batch | {"told": batch["told"] & torch.tensor([True, False, False, False])})["loss"]) != float(
        loss
    )


def sequences(*lists):
    offsets = np.cumsum([0, *map(len, lists)])
    return Histories.from_arrays([f"u{u}" for u in range(len(lists))], offsets, np.concatenate(lists).astype(np.int32))


def drawn(samples, epoch):
    samples.set_epoch(epoch)
    return [(int(a), int(b)) for a, b in zip(samples.starts, samples.ends, strict=True)]


def test_samples_of_a_bidirectional_encoder():
    some = sequences(np.arange(7), [8], [9, 10])
    config = TransformerConfig(**SMALL | {"max_history": 3, "encoder": "bidirectional", "draw": "all"})
    samples = TransformerSamples(some, config, 0)
    user = [(0, 1), (0, 2), (0, 3), (0, 4), (1, 5), (2, 6), (3, 7)]
    assert drawn(samples, 0) == drawn(samples, 1) == [*user, (8, 9), (8, 10)], "every item of who has two"
    batch = samples.collate([0, 4, 8])
    assert batch["lengths"].tolist() == [0, 3, 1]
    assert batch["items"][1].tolist() == [1, 2, 3]
    assert batch["targets"].tolist() == [[0], [4], [10]]
    assert batch["visible"].tolist() == [[0], [3], [1]]

    one = TransformerSamples(some, config.model_copy(update={"draw": "one"}), 0)
    epochs = [drawn(one, epoch) for epoch in range(60)]
    assert all(len(runs) == 4 for runs in epochs), "three stretches of the first user, one of the third"
    assert drawn(one, 7) == epochs[7]
    assert {run for runs in epochs for run in runs} == {*user, (8, 9), (8, 10)}
    assert all(end <= 3 for (_, end), *_ in epochs)

    last = TransformerSamples(some, config.model_copy(update={"loss_positions": "last"}), 0)
    assert drawn(last, 3) == [(3, 7), (8, 10)]


@pytest.mark.parametrize("loss_positions", ["all", "last"])
def test_samples_of_a_causal_encoder(loss_positions):
    some = sequences(np.arange(9), [8], [9, 10])
    config = TransformerConfig(**SMALL | {"max_history": 3, "loss_positions": loss_positions})
    samples = TransformerSamples(some, config, 0)
    for epoch in range(5):
        samples.set_epoch(epoch)
        batch = samples.collate(list(range(len(samples))))
        told = batch["targets"][batch["told"]].tolist()
        assert sorted(told) == (sorted([*range(9), 9, 10]) if loss_positions == "all" else [8, 10])
        at, place = torch.nonzero(batch["told"], as_tuple=True)
        visible = batch["visible"][at, place]
        assert (visible <= batch["lengths"][at]).all()
        for row, target, seen in zip(at, told, visible, strict=True):  # here, the item before n is n - 1
            expected = list(range(max(0, target - int(seen)), target))
            assert batch["items"][row, :seen].tolist() == expected


def ring(users=200, items=10, seed=0):
    """The next item is the one that a fixed permutation gives to the last."""
    rng = np.random.default_rng(seed)
    after = np.roll(rng.permutation(items), 1)
    following = np.empty(items, np.int64)
    following[np.roll(after, -1)] = after
    rows = []
    for _ in range(users):
        row = [int(rng.integers(items))]
        for _ in range(int(rng.integers(4, 9))):
            row.append(int(following[row[-1]]))
        rows.append(np.array(row))
    return sequences(*rows)


def ring_table(items=10):
    codes_ = np.random.default_rng(2).permutation(16)[:items]
    return CodeTable.build(np.stack([codes_ // 4, codes_ % 4], axis=1).astype(np.int32), (4, 4))


LEARNING = {"layers": 1, "width": 32, "head_width": 16, "feed_forward": 64, "batch_size": 16}


def fit(folder, *, epochs=8, **changes):
    training = {"epochs": epochs, "learning_rate": 5e-3, "patience": None}
    config = TransformerConfig(**SMALL | LEARNING | {"training": training} | changes)
    return train_transformer(
        leave_one_out(ring()), ring_table(), config, folder, OPTIONS, QUIET, search=SearchConfig(beam=10)
    )


@pytest.mark.parametrize("changes", [{}, {"encoder": "bidirectional", "draw": "all", "epochs": 6}])
def test_it_learns_a_world_where_the_last_item_tells_the_next(tmp_path, changes):
    model, logs = fit(tmp_path, **changes)
    losses = [entry["loss"] for entry in logs["training"] if "loss" in entry]
    assert losses[-1] < losses[0] / 2
    cases = leave_one_out(ring()).test
    items, _ = BeamSearch(TransformerDecoder(model), ring_table(), SearchConfig(beam=10), "children")(
        cases.histories, 1
    )
    assert (items[:, 0] == cases.targets).mean() > 0.95
    assert max(entry.get("eval_recall@10", 0) for entry in logs["training"]) > 0.95


@pytest.mark.parametrize("encoder", ["causal", "bidirectional"])
def test_an_interrupted_training_ends_where_an_unbroken_one_does(tmp_path, encoder):
    changes = {"epochs": 2, "dropout": 0.1, "encoder": encoder}
    whole, _ = fit(tmp_path / "whole", **changes)
    fit(tmp_path / "broken", **changes)
    folder = tmp_path / "broken" / "training"
    (folder / "finished.safetensors").unlink()
    newest = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    (newest / "whole").unlink()  # as after a kill while it was written
    again, logs = fit(tmp_path / "broken", **changes)
    for name, parameter in whole.trained().items():
        assert torch.equal(parameter, again.trained()[name]), name
    read_back, same = fit(tmp_path / "broken", **changes)
    assert same == logs
    assert torch.equal(read_back.codes, again.codes)


def test_the_seed_decides_on_the_weights_and_leaves_the_callers_random_state():
    table, before = codes(), torch.get_rng_state()
    one, two, other = (build(table, seed=seed).encoder.block[0].layer[0].SelfAttention.q.weight for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    TransformerRecommender(CodeTree.from_table(table), TransformerConfig(**SMALL))
    state = torch.get_rng_state()
    TransformerRecommender(CodeTree.from_table(table), TransformerConfig(**SMALL))
    assert torch.equal(state, torch.get_rng_state())
    assert before.shape == state.shape


def test_everything_gets_gradients():
    model = TransformerRecommender(CodeTree.from_table(codes()), TransformerConfig(**SMALL | {"tie_codes": False}))
    model.train_only_own()
    samples = TransformerSamples(histories(40, 30), model.settings, 0)
    model(**samples.collate(list(range(len(samples)))))["loss"].backward()
    assert not [name for name, p in model.trained().items() if p.grad is None or not p.grad.abs().max() > 0]


def test_float64_weights_search_in_float64(tmp_path):
    config = TransformerConfig(**SMALL | LEARNING | {"training": {"epochs": 1}})
    options = RunOptions(device="cpu", dtype="float64", inference_dtype="float64", progress=False)
    model, _ = train_transformer(leave_one_out(ring()), ring_table(), config, tmp_path, options, QUIET)
    assert model.codes.dtype == torch.float64
    _, hidden = TransformerDecoder(model).prefill(with_empty(items=10))
    assert hidden.dtype == torch.float64


def test_nothing_to_predict_is_a_data_error(tmp_path):
    split = leave_one_out(sequences([1, 2, 3], [4]))
    with pytest.raises(DataError, match="two or more items"):
        train_transformer(split, ring_table(), TransformerConfig(**SMALL), tmp_path, OPTIONS, QUIET)
