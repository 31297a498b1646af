import numpy as np
import pytest
import torch

from storerec.codes import CodeTable, CodeTree
from storerec.llm.adapters import activate
from storerec.llm.layers import layer_list
from storerec.recommender import Decoder, Recommender, RecommenderConfig
from storerec.tokenizer import ADAPTER as TOKENIZER_ADAPTER
from storerec.tokenizer import DenseTokenizer, TokenizerConfig
from tests.recommender import worlds

BATCH = {
    "context": torch.tensor([[5, 9, 11, 4], [7, 8, 3, 0], [7, 8, 3, 12]]),
    "context_lengths": torch.tensor([4, 3, 4]),
    "items": torch.tensor([[1, 2, 3], [4, 5, 0], [39, 0, 0]]),
    "targets": torch.tensor([[True, True, True], [True, True, False], [True, False, False]]),
}


def build(backbone, means=None, **changes):
    """A recommender as it starts, on the codes of the tests' world."""
    rng = np.random.default_rng(1)
    codes = np.stack([rng.integers(0, size, 40) for size in worlds.SIZES], axis=1).astype(np.int32)
    config = RecommenderConfig(max_history=5, **{"lora": {"rank": 4}} | changes)
    return Recommender(backbone, config, CodeTree.from_table(CodeTable.build(codes, worlds.SIZES)), means)


def with_tokenizer(backbone):
    """A tokenizer whose adapter has learned something, as the recommender finds it."""
    tokenizer = DenseTokenizer(backbone, TokenizerConfig(dense_tokens=3, lora={"rank": 2}), 1)
    with torch.no_grad():
        for name, parameter in tokenizer.trained().items():
            if "lora" in name:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return tokenizer


def means_of(backbone, seed=0):
    rng = np.random.default_rng(seed)
    shared = 3 * rng.standard_normal(backbone.width)  # most of a dense token is common to all
    return [shared + rng.standard_normal((size, backbone.width)) for size in worlds.SIZES]


@pytest.mark.parametrize(
    "changes",
    [{}, {"tuning": "full"}, {"layers": 2}, {"layers": 2, "tuning": "full"}, {"tie_codes": True}, {"code_rank": 3}],
)
def test_what_is_trained_gets_gradients_and_nothing_else_does(family, load_backbone, changes):
    backbone = load_backbone(family)
    tokenizer = with_tokenizer(backbone)
    model = build(backbone, means_of(backbone), **changes)
    with torch.no_grad():  # one of two factors starts at zero, which leaves the other without a gradient
        for name, parameter in model.trained().items():
            if "lora_B" in name or "change" in name:
                parameter.normal_(std=0.05)
    model.train_only_own()
    model(**BATCH)["loss"].backward()
    touched = {id(p) for p in model.parameters() if p.grad is not None}
    assert touched == {id(p) for p in model.trained().values()}
    silent = {name for name, p in model.trained().items() if not p.grad.abs().max() > 0}
    # softmax ignores what is added to all scores alike, so biases of attention's keys learn nothing
    assert not {name for name in silent if "k_proj.bias" not in name}
    assert all(p.grad is None for p in tokenizer.trained().values())


def test_a_context_that_all_rows_share_is_read_once_and_gives_the_same(family, load_backbone):
    model = build(load_backbone(family))
    with torch.no_grad():
        for name, parameter in model.trained().items():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    model.train_only_own()
    model.eval()  # GPT-2's layers drop in training
    read = []
    model.base.register_forward_pre_hook(
        lambda _, given, named: read.append(named["inputs_embeds"].shape), with_kwargs=True
    )
    context, lengths, items = BATCH["context"][:1].expand(3, -1), torch.full((3,), 4), BATCH["items"]
    together = model.code_hidden(context, lengths, items)
    assert [shape[:2] for shape in read] == [(1, 4), (3, items.shape[1] * len(worlds.SIZES) - 1)]
    alone = torch.cat([model.code_hidden(context[:1], lengths[:1], items[row : row + 1]) for row in range(3)])
    assert torch.allclose(together, alone, atol=1e-5)
    weight, trained = torch.randn(together.shape), list(model.trained().values())
    found, expected = (
        torch.autograd.grad((one * weight).sum(), trained, allow_unused=True) for one in (together, alone)
    )
    for ours, plain in zip(found, expected, strict=True):
        assert (ours is None) == (plain is None)  # rows of outputs have no part in it
        assert ours is None or torch.allclose(ours, plain, atol=1e-5 * float(plain.abs().max()) + 1e-7)


@pytest.mark.parametrize(("name", "change"), [("gpt2", {}), ("llama", {"residual_dropout": 0.1})])
def test_a_context_is_read_in_every_row_where_rows_drop_on_their_own(name, change, load_backbone):
    model = build(load_backbone(name), **change)
    model.train_only_own()
    read = []
    model.base.register_forward_pre_hook(
        lambda _, given, named: read.append(named["inputs_embeds"].shape), with_kwargs=True
    )
    context, lengths = BATCH["context"][:1].expand(3, -1), torch.full((3,), 4)
    model.train()
    model.code_hidden(context, lengths, BATCH["items"])
    assert [shape[0] for shape in read] == [3]


def test_full_tuning_leaves_the_backbone_and_the_tokenizer_as_they_are(family, load_backbone):
    backbone = load_backbone(family)
    tokenizer = with_tokenizer(backbone)
    content, lengths = torch.tensor([[5, 9, 11, 4], [7, 8, 3, 0]]), torch.tensor([4, 3])

    def dense():
        activate(backbone.base, [TOKENIZER_ADAPTER])
        with torch.no_grad():
            return tokenizer.dense(content, lengths)

    before, weights = dense(), {name: p.clone() for name, p in backbone.model.named_parameters()}
    model = build(backbone, means_of(backbone), tuning="full", layers=2)
    model.train_only_own()
    optimizer = torch.optim.SGD(model.trained().values(), lr=0.5)
    start = {name: p.detach().clone() for name, p in model.trained().items()}
    model(**BATCH)["loss"].backward()
    optimizer.step()
    moved = {name for name, p in model.trained().items() if not torch.equal(p, start[name])}
    assert any(name.startswith("base.") for name in moved)
    assert {"code_inputs", "own_outputs"} <= moved
    for name, parameter in backbone.model.named_parameters():
        assert torch.equal(parameter, weights[name]), name
    assert torch.equal(dense(), before)


def test_full_tuning_starts_from_the_tokenizers_weights(family, load_backbone):
    backbone = load_backbone(family)
    with_tokenizer(backbone)
    model = build(backbone, means_of(backbone), tuning="full")
    inputs, places = torch.randn(2, 6, backbone.width), torch.arange(6).expand(2, -1)
    with torch.no_grad():
        merged = model.run(inputs, places)
        activate(backbone.base, [TOKENIZER_ADAPTER])
        tuned = backbone.base(inputs_embeds=inputs, position_ids=places, use_cache=False).last_hidden_state
        activate(backbone.base, [])
        plain = backbone.base(inputs_embeds=inputs, position_ids=places, use_cache=False).last_hidden_state
    torch.testing.assert_close(merged, tuned, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(merged, plain, atol=1e-2)


def rms(array):
    return float(array.detach().square().mean().sqrt())


@pytest.mark.parametrize("centred", [False, True])
def test_code_rows_start_at_their_clusters_means_in_the_words_scale(load_backbone, centred):
    backbone = load_backbone()
    means = means_of(backbone)
    model = build(backbone, means, centre_codes=centred, output_scale=0.3)
    for position, mean in enumerate(means):
        rows = model.code_inputs[model.starts[position] : model.starts[position + 1]].detach()
        assert rms(rows) == pytest.approx(backbone.word_rms(), rel=1e-4)
        wanted = torch.from_numpy(mean - mean.mean(0) if centred else mean).float()
        torch.testing.assert_close(rows / rms(rows), wanted / rms(wanted), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.code_outputs, 0.3 * model.code_inputs)


def test_random_rows_have_the_words_scale_and_are_none_of_the_means(load_backbone):
    backbone = load_backbone()
    drawn = build(backbone, means_of(backbone), code_init="random", tuning="full").code_inputs.detach()
    without = build(backbone, None, tuning="full").code_inputs.detach()
    placed = build(backbone, means_of(backbone), tuning="full").code_inputs.detach()
    assert rms(drawn) == pytest.approx(backbone.word_rms(), rel=0.1)
    assert torch.equal(drawn, without), "without means there is nothing else to start from"
    assert not torch.allclose(drawn, placed, atol=1e-3)


def test_a_position_without_means_is_drawn(load_backbone):
    backbone = load_backbone()
    means = means_of(backbone)[:2]  # the policy "extra" appends a position no cluster stands behind
    model = build(backbone, means)
    last = model.code_inputs[model.starts[2] :].detach()
    assert last.shape == (6, backbone.width)
    assert rms(last) == pytest.approx(backbone.word_rms(), rel=0.3)


def naive_loss(model, normaliser):
    """Target by target, position by position, one sequence at a time, over plain lists of allowed codes."""
    codes = model.tree.item_codes
    every = [tuple(row) for row in codes.tolist()]
    losses = []
    for row in range(3):
        context = BATCH["context"][row, : BATCH["context_lengths"][row]]
        words = model.backbone.embed(context)
        for place in range(3):
            if not BATCH["targets"][row, place]:
                continue
            past = [codes[item] for item in BATCH["items"][row, :place]]
            answer = every[int(BATCH["items"][row, place])]
            told = [c + o for one in past for c, o in zip(one.tolist(), model.offsets.tolist(), strict=True)]
            for position, code in enumerate(answer):
                before = told + [c + o for c, o in zip(answer[:position], model.offsets.tolist(), strict=False)]
                inputs = torch.cat([words, model.code_inputs[torch.tensor(before, dtype=torch.int64)]])[None]
                hidden = model.run(inputs, torch.arange(inputs.shape[1])[None])[0, -1]
                scores = model.code_outputs @ hidden
                start, end = model.starts[position], model.starts[position + 1]
                if normaliser == "vocabulary":
                    norm = torch.cat([model.backbone.text_logits(hidden), scores]).logsumexp(0)
                elif normaliser == "position":
                    norm = scores[start:end].logsumexp(0)
                else:
                    allowed = {one[position] for one in every if one[:position] == answer[:position]}
                    norm = scores[start + np.array(sorted(allowed))].logsumexp(0)
                losses.append(norm - scores[start + code])
    return torch.stack(losses).mean()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("normaliser", ["children", "position", "vocabulary"])
def test_the_loss_equals_a_naive_one(family, load_backbone, normaliser, tied):
    model = worlds.make(load_backbone(family), normaliser=normaliser, tie_codes=tied).model
    model.use_adapters()
    with torch.no_grad():
        assert float(model(**BATCH)["loss"]) == pytest.approx(float(naive_loss(model, normaliser)), rel=2e-5)


def test_normalisers_are_different_losses(load_backbone):
    losses = []
    for normaliser in ("children", "position", "vocabulary"):
        model = worlds.make(load_backbone(), normaliser=normaliser).model
        model.use_adapters()
        with torch.no_grad():
            losses.append(float(model(**BATCH)["loss"]))
    assert losses == sorted(losses), "the more there is to choose from, the less probable is the answer"
    assert len(set(losses)) == 3


def test_tied_codes_learn_from_being_read_and_from_being_predicted(load_backbone):
    backbone = load_backbone()
    with_tokenizer(backbone)
    model = build(backbone, means_of(backbone), tie_codes=True, output_scale=0.25)
    assert {"code_inputs", "output_scale"} == {name for name in model.trained() if not name.startswith("base.")}
    torch.testing.assert_close(model.code_outputs, 0.25 * model.code_inputs)
    model.train_only_own()
    with torch.no_grad():
        model.code_inputs.add_(1.0)
        model.output_scale.fill_(0.5)
    torch.testing.assert_close(model.code_outputs, 0.5 * model.code_inputs)


def test_lora_on_two_layers_stands_on_these_only(family, load_backbone):
    backbone = load_backbone(family)
    with_tokenizer(backbone)
    model = build(backbone, means_of(backbone), layers=2)
    prefix, _ = layer_list(model.base)
    ours = [name.removeprefix("base.") for name in model.trained() if "lora" in name]
    assert {name.split(".")[len(prefix.split("."))] for name in ours} == {"0", "1"}
    everywhere = [name for name, _ in backbone.base.named_parameters() if ".recommender." in name]
    assert sorted(everywhere) == sorted(ours), "the third layer has none"


def test_a_state_comes_back_and_another_is_refused(load_backbone):
    one, two = (worlds.make(load_backbone()).model for _ in range(2))
    with torch.no_grad():
        for parameter in two.trained().values():
            parameter.add_(1)
    two.load_state_dict({name: tensor.clone() for name, tensor in one.state_dict().items()})
    assert all(torch.equal(p, two.trained()[name]) for name, p in one.trained().items())
    with pytest.raises(KeyError, match="own_outputs"):
        two.load_state_dict({name: t for name, t in one.state_dict().items() if name != "own_outputs"})


def test_rows_of_a_rank_stay_near_their_start_and_come_back_with_it(load_backbone):
    backbone = load_backbone()
    with_tokenizer(backbone)
    start = build(backbone, means_of(backbone)).code_inputs.detach()
    backbone = load_backbone()
    with_tokenizer(backbone)
    model = build(backbone, means_of(backbone), code_rank=2)
    assert torch.equal(model.code_inputs, start)
    model.train_only_own()
    optimizer = torch.optim.Adam(model.trained().values(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(**BATCH)["loss"].backward()
        optimizer.step()
    added = model.code_inputs.detach() - start
    assert torch.linalg.matrix_rank(added, rtol=1e-4) == 2
    other = load_backbone()
    with_tokenizer(other)
    again = build(other, None, code_rank=2)  # a saved model is taken up without the clusters' means
    assert not torch.equal(again.code_inputs, model.code_inputs)
    again.load_state_dict({name: tensor.clone() for name, tensor in model.state_dict().items()})
    assert torch.equal(again.code_inputs, model.code_inputs)
    assert torch.equal(again.code_outputs, model.code_outputs)


@pytest.mark.parametrize("changes", [{}, {"tuning": "full", "layers": 2}, {"layers": 1}])
def test_prefill_and_steps_equal_the_uncached_forward(family, load_backbone, changes):
    """Users of unlike history lengths; three beams each, the second step's parents crossed."""
    world = worlds.make(load_backbone(family), **changes)
    model, decoder = world.model, Decoder(world.model)
    histories = world.histories
    users = len(histories)
    assert len(set(histories.lengths.tolist())) > 1
    first = torch.tensor([[0, 3, 4]]).expand(users, -1)
    second, parents = torch.tensor([[1, 2, 0]]).expand(users, -1), torch.tensor([2, 0, 2])
    with torch.no_grad():
        prefix, after_history = decoder.prefill(histories)
        eye = torch.eye(3, dtype=torch.bool)
        after_first = decoder.step(prefix, first, 0, eye.expand(users, -1, -1))
        after_second = decoder.step(prefix, second, 1, torch.cat([eye[parents], eye], dim=1).expand(users, -1, -1))
        for user in range(users):
            past = torch.from_numpy(histories.sequence(user)[-5:].astype(np.int64))
            told = (model.tree.item_codes[past] + model.offsets).flatten().tolist()
            words = model.backbone.embed(decoder.instruction)

            def plain(*codes, words=words, told=told):
                rows = model.code_inputs[torch.tensor([*told, *codes])]
                inputs = torch.cat([words, rows])[None]
                return model.run(inputs, torch.arange(inputs.shape[1])[None])[0, -1]

            close = {"rtol": 1e-4, "atol": 1e-4}
            torch.testing.assert_close(after_history[user], plain(), **close)
            for beam in range(3):
                one = int(first[user, beam])
                torch.testing.assert_close(after_first[user, beam], plain(one), **close)
                path = int(first[user, parents[beam]]), int(second[user, beam]) + int(model.starts[1])
                torch.testing.assert_close(after_second[user, beam], plain(*path), **close)
