import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from storerec.data.histories import Histories
from storerec.llm.batching import BucketSampler
from storerec.recommender import RecommenderConfig
from storerec.recommender.alignment import alignment_samples, text_to_codes, titles_to_codes
from storerec.recommender.tasks import SEQUENCE, RecommenderSamples, Windows
from tests.recommender import worlds

TEXT_TO_CODES, CODES_TO_TEXT, TITLES_TO_CODES = 1, 2, 3
TASKS = ("text_to_codes", "codes_to_text", "titles_to_codes")


def histories_of(lengths):
    """Every event is another item, so that windows say which events they hold."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Histories.from_arrays([f"u{u}" for u in range(len(lengths))], offsets, np.arange(offsets[-1]))


LENGTHS = st.lists(st.integers(1, 23), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(lengths=LENGTHS, size=st.integers(2, 7), jitter=st.booleans(), epoch=st.integers(0, 5))
def test_windows_cover_every_item_in_each_epoch(lengths, size, jitter, epoch):
    histories = histories_of(lengths)
    windows = Windows(histories, size, only_last=False, jitter=jitter, seed=4)
    starts, ends = windows.cut(epoch)
    assert len(starts) == len(windows.cut(epoch + 1)[0]), "the number is the same in each epoch"
    assert (ends - starts <= size).all()
    user = np.searchsorted(histories.offsets, starts, side="right") - 1
    assert (ends <= histories.offsets[1:][user]).all(), "no window crosses from one user to the next"
    assert not (histories.lengths[user] < 2).any(), "one item alone gives nothing to learn"
    covered = [event for a, b in zip(starts, ends, strict=True) for event in range(a, b)]
    wanted = [e for u, n in enumerate(lengths) if n >= 2 for e in range(*histories.offsets[u : u + 2])]
    assert sorted(covered) == wanted, "each in one window"


def test_jitter_cuts_at_other_places_each_epoch_and_the_same_for_the_same_epoch():
    windows = Windows(histories_of([50] * 20), 6, only_last=False, jitter=True, seed=4)
    assert all(np.array_equal(a, b) for a, b in zip(windows.cut(1), windows.cut(1), strict=True))
    assert not np.array_equal(windows.cut(1)[0], windows.cut(2)[0])
    borders = {int(start) % 50 for epoch in range(60) for start in windows.cut(epoch)[0]}
    assert len(borders) > 15, "no border is a fixed one"
    still = Windows(histories_of([50] * 20), 6, only_last=False, jitter=False, seed=4)
    assert all(np.array_equal(a, b) for a, b in zip(still.cut(1), still.cut(2), strict=True))


@settings(max_examples=50, deadline=None)
@given(lengths=LENGTHS, size=st.integers(2, 7))
def test_only_last_is_one_window_a_user_at_its_end(lengths, size):
    histories = histories_of(lengths)
    starts, ends = Windows(histories, size, only_last=True, jitter=True, seed=0).cut(3)
    several = [u for u, n in enumerate(lengths) if n >= 2]
    assert ends.tolist() == [int(histories.offsets[u + 1]) for u in several]
    assert (ends - starts).tolist() == [min(size, lengths[u]) for u in several]


def make(load_backbone, family="llama", **changes):
    world = worlds.make(load_backbone(family), alignment_tasks=TASKS, **changes)
    config = world.model.settings
    instruction = world.backbone.encode([config.prompts.sequence], max_tokens=99, begin=True).flat
    histories = worlds.histories(40, 12, longest=14, seed=2)
    tasks = alignment_samples(world.catalogue, histories, world.backbone, config)
    samples = RecommenderSamples(histories, tasks, instruction, config, seed=0)
    return world, samples, histories


@pytest.mark.parametrize("positions", ["all", "last"])
def test_a_batch_of_windows_holds_their_items_and_targets(load_backbone, positions):
    _, samples, histories = make(load_backbone, loss_positions=positions)
    rows = np.flatnonzero(samples.groups == SEQUENCE)
    batch = samples.collate(rows.tolist())
    lengths = samples.ends - samples.starts
    assert len(set(lengths.tolist())) > 1, "there is padding to tell apart"
    for place in range(len(rows)):
        real = histories.items[samples.starts[place] : samples.ends[place]]
        assert batch["items"][place, : len(real)].tolist() == real.tolist()
        wanted = np.zeros(batch["items"].shape[1], bool)
        wanted[slice(0, len(real)) if positions == "all" else len(real) - 1] = True
        assert batch["targets"][place].tolist() == wanted.tolist()
        assert batch["context"][place].tolist() == samples.instruction.tolist()


@pytest.mark.parametrize("task", [SEQUENCE, TEXT_TO_CODES, CODES_TO_TEXT, TITLES_TO_CODES])
def test_the_loss_of_a_batch_is_that_of_its_rows(family, load_backbone, task):
    """Padding and neighbours change nothing: rows one by one, weighted by their targets, give the batch's loss."""
    world, samples, _ = make(load_backbone, family)
    world.model.use_adapters()
    rows = np.flatnonzero(samples.groups == task)[:9].tolist()
    assert len(set(samples.lengths[rows].tolist())) > 1
    with torch.no_grad():
        whole = float(world.model(**samples.collate(rows))["loss"])
        ones = [samples.collate([row]) for row in rows]
        alone = [float(world.model(**one)["loss"]) for one in ones]
    weights = [int(one["answer_lengths"] if "answers" in one else one["targets"].sum()) for one in ones]
    assert whole == pytest.approx(np.average(alone, weights=weights), rel=1e-5)


def test_what_stands_in_the_padding_does_not_matter(load_backbone):
    world, samples, _ = make(load_backbone)
    world.model.use_adapters()
    batch = samples.collate(np.flatnonzero(samples.groups == SEQUENCE).tolist())
    assert not batch["targets"].all()
    with torch.no_grad():
        one = world.model(**batch)["loss"]
        batch["items"] = torch.where(batch["targets"], batch["items"], 17)
        assert torch.equal(world.model(**batch)["loss"], one)
        batch["items"] = torch.where(batch["targets"], 17, batch["items"])
        assert not torch.equal(world.model(**batch)["loss"], one)


def test_in_an_alignment_batch_the_codes_follow_the_text_directly(load_backbone):
    world, samples, _ = make(load_backbone)
    model, backbone = world.model, world.backbone
    rows = np.flatnonzero(samples.groups == TEXT_TO_CODES)[[3, 20, 39]]
    batch = samples.collate(rows.tolist())
    assert batch["items"][:, 0].tolist() == [3, 20, 39]
    assert batch["targets"].tolist() == [[True]] * 3
    codes = model.tree.item_codes[batch["items"]]
    flat = (codes + model.offsets).flatten(1)
    inputs = model.inputs(batch["context"], batch["context_lengths"], model.history_tokens(batch["items"]))
    for place, item in enumerate((3, 20, 39)):
        length = int(batch["context_lengths"][place])
        text = backbone.tokenizer.decode(batch["context"][place, :length])
        assert text == f"Item: {world.catalogue.titles[item]}\nIts codes:"
        words = backbone.embed(batch["context"][place, :length])
        own = torch.cat([words, model.code_inputs[flat[place]]])
        assert torch.equal(inputs[place, : len(own)], own)


def test_long_texts_are_cut_but_never_lose_the_question(load_backbone):
    backbone = load_backbone()
    catalogue = worlds.catalogue(5)
    config = RecommenderConfig(alignment_tokens=4)
    texts = text_to_codes(catalogue, backbone, config).contexts
    question = backbone.encode([config.prompts.alignment_after], max_tokens=99).flat
    assert (texts.lengths == 4 + len(question)).all()
    for row in range(5):
        assert texts.flat[: texts.offsets[row + 1]][-len(question) :].tolist() == question.tolist()


def test_codes_to_text_is_the_likelihood_of_the_text_after_the_codes(family, load_backbone):
    world, samples, _ = make(load_backbone, family)
    model, backbone = world.model, world.backbone
    model.use_adapters()
    rows = np.flatnonzero(samples.groups == CODES_TO_TEXT)[[3, 20]]
    batch = samples.collate(rows.tolist())
    assert batch["items"][:, 0].tolist() == [3, 20]
    losses = []
    for item in (3, 20):
        text = backbone.tokenizer(f" {world.catalogue.titles[item]}", add_special_tokens=False)["input_ids"]
        text = torch.as_tensor([*text, backbone.end_id])
        words = backbone.encode([model.settings.prompts.describe], max_tokens=99, begin=True).flat
        codes = model.code_inputs[model.tree.item_codes[item] + model.offsets]
        whole = torch.cat([backbone.embed(torch.as_tensor(words)), codes, backbone.embed(text)])[None]
        with torch.no_grad():
            hidden = model.run(whole, torch.arange(whole.shape[1])[None])[0, -len(text) - 1 : -1]
            losses += (-backbone.text_logits(hidden).log_softmax(-1).gather(1, text[:, None])[:, 0]).tolist()
    with torch.no_grad():
        assert float(model(**batch)["loss"]) == pytest.approx(np.mean(losses), rel=1e-4)


def test_titles_of_a_history_ask_for_the_users_last_item(load_backbone):
    world, samples, histories = make(load_backbone)
    rows = np.flatnonzero(samples.groups == TITLES_TO_CODES)
    batch = samples.collate(rows.tolist())
    users = np.flatnonzero(histories.lengths >= 2)
    assert len(rows) == len(users) > 5
    for place, user in enumerate(users):
        *past, last = histories.sequence(int(user)).tolist()
        words = batch["context"][place, : int(batch["context_lengths"][place])]
        titles = "".join(f" {world.catalogue.titles[item]};" for item in past[-5:])
        prompts = world.model.settings.prompts
        assert world.backbone.tokenizer.decode(words) == prompts.titles + titles + prompts.alignment_after
        assert batch["items"][place].tolist() == [last]


def test_of_a_long_history_the_last_titles_are_read(load_backbone):
    backbone, catalogue = load_backbone(), worlds.catalogue(40)
    histories = worlds.histories(40, 12, longest=14, seed=2)
    config = RecommenderConfig(history_tokens=30, max_history=5)
    contexts = titles_to_codes(catalogue, histories, backbone, config).contexts
    whole = titles_to_codes(catalogue, histories, backbone, config.model_copy(update={"history_tokens": 999})).contexts
    frame = len(backbone.encode([config.prompts.titles], max_tokens=99, begin=True).flat)
    shortened = 0
    for user in range(len(contexts)):
        one, all_ = (c.flat[c.offsets[user] : c.offsets[user + 1]] for c in (contexts, whole))
        assert one[frame:].tolist() == all_[len(all_) - len(one) + frame :].tolist(), "the most recent ones"
        assert one[:frame].tolist() == all_[:frame].tolist()
        shortened += len(one) < len(all_)
    assert shortened


def test_new_windows_each_epoch_keep_samples_and_batches_in_step(load_backbone):
    _, samples, histories = make(load_backbone)
    sampler = BucketSampler(samples.lengths, samples.groups, [4, 8, 8, 8], seed=0)
    for epoch in range(3):
        samples.set_epoch(epoch)
        sampler.set_epoch(epoch)
        seen = [samples.collate(batch) for batch in sampler]
        codes = sum(int(batch["targets"].sum()) for batch in seen)
        several = histories.lengths[histories.lengths >= 2]
        assert codes == several.sum() + len(several) + 40, "every event, every history's end, and every item's text"
        assert sum(len(batch["items"]) for batch in seen if "answers" in batch) == 40
        assert len(seen) == len(sampler)
