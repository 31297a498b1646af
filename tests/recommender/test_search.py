import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from storerec.recommender import BeamSearch, Decoder, SearchConfig
from tests.recommender import worlds


def search(world, k, *, beam=20, normaliser="children", **options):
    config = SearchConfig(beam=beam, batch_users=2, **options)
    return BeamSearch(Decoder(world.model), world.table, config, normaliser)


@pytest.mark.parametrize("policy", ["bucket", "extra", "reassign"])
@pytest.mark.parametrize("normaliser", ["children", "position", "vocabulary"])
def test_a_beam_as_wide_as_the_catalogue_is_exact(load_backbone, normaliser, policy):
    world = worlds.make(load_backbone("llama"), policy=policy)
    items, scores = search(world, 40, beam=40, normaliser=normaliser)(world.histories, 40)
    exact = worlds.exact_scores(world, world.histories, normaliser)
    for user in range(len(world.histories)):
        assert sorted(items[user]) == list(range(40))  # every item once
        np.testing.assert_allclose(scores[user], exact[user][items[user]], atol=2e-4)
        # the order is the exact one, but for items closer together than float32 can tell
        assert (np.diff(exact[user][items[user]]) <= 2e-4).all()


def test_exact_for_every_family(family, load_backbone):
    world = worlds.make(load_backbone(family))
    items, _ = search(world, 10, beam=40)(world.histories, 10)
    best = np.sort(worlds.exact_scores(world, world.histories, "children"), axis=1)[:, ::-1][:, :10]
    found = np.take_along_axis(worlds.exact_scores(world, world.histories, "children"), items, axis=1)
    np.testing.assert_allclose(found, best, atol=2e-4)


def plain_model(world, folder):
    """The same recommender as an ordinary transformers model whose vocabulary holds the codes."""
    backbone, ours = world.backbone, world.model
    plain = AutoModelForCausalLM.from_pretrained(folder)
    text = backbone.word_embeddings.weight.shape[0]
    plain.config.tie_word_embeddings = False
    head = torch.nn.Linear(backbone.width, text + len(ours.code_outputs), bias=False)
    rows = torch.cat([plain.get_output_embeddings().weight, ours.code_outputs.detach()])
    words = torch.nn.Embedding.from_pretrained(
        torch.cat([plain.get_input_embeddings().weight, ours.code_inputs.detach()])
    )
    head.weight = torch.nn.Parameter(rows.detach())
    plain.set_input_embeddings(words)
    plain.set_output_embeddings(head)
    plain.config.vocab_size = len(words.weight)
    layers = dict(ours.base.named_parameters())
    base = plain.base_model
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            if name in layers and layers[name].shape == parameter.shape:
                parameter.copy_(layers[name])
    return plain.eval(), text


@pytest.mark.parametrize(("normaliser", "renormalize"), [("vocabulary", False), ("children", True)])
def test_equals_generate_with_prefix_allowed_tokens(family, load_backbone, tiny_backbone, normaliser, renormalize):
    world = worlds.make(load_backbone(family), tuning="full", policy="reassign", users=3)  # a tuple is an item
    plain, text = plain_model(world, tiny_backbone(family))
    tuples = {tuple(codes): row for row, codes in enumerate(world.table.codes.tolist())}
    starts, beam = world.model.starts, 6
    instruction = world.backbone.encode([world.model.settings.prompts.sequence], max_tokens=999, begin=True).flat
    ours, scores = search(world, beam, beam=beam, normaliser=normaliser)(world.histories, beam)
    for user in range(3):
        past = world.histories.sequence(user)[-5:]
        codes = (world.table.codes[past] + starts[:-1] + text).ravel()
        prompt = torch.as_tensor(np.concatenate([instruction, codes]))[None]

        def allowed(_, ids, length=prompt.shape[1]):
            prefix = [int(c) - text - int(s) for c, s in zip(ids[length:], starts, strict=False)]
            at = len(prefix)
            return sorted({t[at] + int(starts[at]) + text for t in tuples if list(t[:at]) == prefix})

        out = plain.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=3, min_new_tokens=3, num_beams=beam,
            num_return_sequences=beam, do_sample=False, prefix_allowed_tokens_fn=allowed, length_penalty=0.0,
            renormalize_logits=renormalize, return_dict_in_generate=True, output_scores=True, eos_token_id=None,
            pad_token_id=1,
        )  # fmt: skip
        theirs = [tuples[tuple((row - text - starts[:-1]).tolist())] for row in out.sequences[:, -3:].numpy()]
        np.testing.assert_allclose(scores[user], out.sequences_scores.numpy(), atol=3e-4)
        assert ours[user].tolist() == theirs


def test_exclusions_act_inside_the_search(load_backbone):
    world = worlds.make(load_backbone("qwen"))
    exact = worlds.exact_scores(world, world.histories, "children")
    plain, _ = search(world, 5, beam=40)(world.histories, 5)
    banned = np.unique(plain[:, :3])
    items, _ = search(world, 8, beam=40)(world.histories, 8, own=True, banned=banned)
    for user in range(len(world.histories)):
        out = set(banned) | set(world.histories.sequence(user))
        rest = sorted(set(range(40)) - out, key=lambda row: -exact[user][row])[:8]
        np.testing.assert_allclose(exact[user][items[user]], exact[user][rest], atol=2e-4)
        assert not set(items[user]) & out


def test_a_narrow_beam_still_gives_k_results_when_most_is_banned(load_backbone):
    world = worlds.make(load_backbone("llama"))
    keep = np.array([3, 17, 29])
    items, _ = search(world, 3, beam=3)(world.histories, 3, banned=np.setdiff1d(np.arange(40), keep))
    assert all(sorted(row) == keep.tolist() for row in items)
    items, scores = search(world, 5, beam=5)(world.histories, 5, banned=np.setdiff1d(np.arange(40), keep))
    assert (items[:, 3:] == -1).all()
    assert np.isneginf(scores[:, 3:]).all()


def test_batching_users_changes_nothing(load_backbone):
    world = worlds.make(load_backbone("opt"), users=7)
    many, scores = search(world, 10)(world.histories, 10)
    for user in range(7):
        one, alone = search(world, 10)(world.histories.select(np.array([user])), 10)
        np.testing.assert_allclose(alone[0], scores[user], atol=1e-4)
        assert one[0].tolist() == many[user].tolist()


def test_the_tree_by_ranges_equals_the_dense_tables(load_backbone):
    from storerec.codes import CodeTree
    from storerec.recommender.tree import TorchTree

    world = worlds.make(load_backbone("llama"), items=60)
    dense = TorchTree(CodeTree.from_table(world.table), torch.device("cpu"))
    ranges = TorchTree(CodeTree.from_table(world.table, dense_limit=0), torch.device("cpu"))
    for level in range(dense.levels):
        nodes = torch.arange(dense.source.nodes(level)).reshape(1, -1)
        assert torch.equal(dense.children(level, nodes), ranges.children(level, nodes))
        assert torch.equal(dense.children(level, nodes), ranges._padded_children(level, nodes))  # a GPU's way


def test_soft_constraint_drops_what_names_no_item(load_backbone):
    world = worlds.make(load_backbone("llama"))
    items, scores = search(world, 20, beam=20, normaliser="position", constraint="soft")(world.histories, 20)
    exact = worlds.exact_scores(world, world.histories, "position")
    assert (items == -1).any(), "with 40 of 120 tuples taken, some of 20 free beams must miss"
    for user, row in enumerate(items):
        real = row[row >= 0]
        assert len(set(real)) == len(real)
        np.testing.assert_allclose(scores[user][row >= 0], exact[user][real], atol=2e-4)


def test_a_history_is_read_once_and_nothing_is_reordered(load_backbone):
    world = worlds.make(load_backbone("llama"), users=2)
    decoder = Decoder(world.model)
    prefix, hidden = decoder.prefill(world.histories)
    keys = prefix.read.keys[0].clone()
    length = keys.shape[2]
    codes = torch.tensor([[0, 1, 2], [2, 0, 1]])
    decoder.step(prefix, codes, 0, torch.eye(3, dtype=torch.bool).expand(2, -1, -1))
    assert hidden.shape == (2, world.backbone.width)
    assert prefix.read.keys[0].shape[2] == length + 3
    assert torch.equal(prefix.read.keys[0][:, :, :length], keys)
    assert len(keys) == 2, "one set of keys per user, however many beams"


@pytest.mark.parametrize("normaliser", ["children", "position"])
def test_a_beam_that_leads_to_one_leaf_is_not_read_on(load_backbone, normaliser, monkeypatch):
    """Its remaining codes have probability 1 among the children: the results of a plain search, from fewer tokens."""
    world = worlds.make(load_backbone("llama"), items=40)
    decoder, read = Decoder(world.model), []
    step = decoder.step

    def counted(prefix, codes, position, ancestors):
        read.append(codes.shape[1])
        return step(prefix, codes, position, ancestors)

    monkeypatch.setattr(decoder, "step", counted)
    config = SearchConfig(beam=40, batch_users=1)
    BeamSearch(decoder, world.table, config, normaliser)(world.histories.select(np.array([0])), 40)
    tree = decoder.tree.source
    wide = [tree.nodes(level) for level in (1, 2)]
    if normaliser == "position":
        assert read == [5, 5 * 4]  # places of dead beams too
        return
    leaves = np.diff(tree.starts[2])
    assert read == [wide[0], int((leaves > 1).sum())]
    assert 0 < (leaves > 1).sum() < wide[1]


def test_a_tree_of_one_item_is_never_read_on(load_backbone):
    world = worlds.make(load_backbone("llama"), items=1)
    items, scores = search(world, 2, beam=4)(world.histories, 2)
    assert items.tolist() == [[0, -1]] * len(world.histories)
    np.testing.assert_allclose(scores[:, 0], 0, atol=1e-6)
