import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storerec.llm.batching import BucketSampler, Ragged, token_batches

LISTS = st.lists(st.lists(st.integers(0, 99), max_size=6), max_size=12)


@settings(max_examples=100, deadline=None)
@given(lists=LISTS)
def test_ragged_holds_the_lists_it_was_made_of(lists):
    ragged = Ragged.from_lists(lists)
    assert len(ragged) == len(lists)
    parts = [ragged.flat[a:b].tolist() for a, b in zip(ragged.offsets[:-1], ragged.offsets[1:], strict=True)]
    assert parts == lists
    assert ragged.lengths.tolist() == [len(one) for one in lists]


@settings(max_examples=100, deadline=None)
@given(lists=LISTS.filter(bool), data=st.data(), fill=st.integers(-1, 1))
def test_padded_equals_a_plain_loop(lists, data, fill):
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=8))
    padded, lengths = Ragged.from_lists(lists).padded(np.array(rows, np.int64), fill=fill)
    longest = max((len(lists[row]) for row in rows), default=0)
    assert padded.shape == (len(rows), longest)
    assert padded.tolist() == [lists[row] + [fill] * (longest - len(lists[row])) for row in rows]
    assert lengths.tolist() == [len(lists[row]) for row in rows]


@settings(max_examples=60, deadline=None)
@given(
    groups=st.lists(st.integers(0, 2), max_size=60),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)),
    pool=st.integers(1, 4),
    epoch=st.integers(0, 3),
)
def test_an_epoch_has_every_sample_once_in_batches_of_one_group(groups, sizes, pool, epoch):
    lengths = np.random.default_rng(len(groups)).integers(1, 9, len(groups))
    sampler = BucketSampler(lengths, np.array(groups, np.int64), sizes, seed=3, pool=pool)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert sorted(row for batch in batches for row in batch) == list(range(len(groups)))
    assert len(batches) == len(sampler), "a trainer resumes at a batch number: it must not change with the epoch"
    for batch in batches:
        (group,) = {groups[row] for row in batch}
        assert len(batch) <= sizes[group]


@pytest.fixture
def sampler():
    lengths = np.random.default_rng(0).integers(1, 101, 640)
    return BucketSampler(lengths, np.arange(640) % 2, [8, 16], seed=5)


def order(sampler, epoch):
    sampler.set_epoch(epoch)
    return list(sampler)


def test_order_is_fixed_by_seed_and_epoch_alone(sampler):
    first, second = order(sampler, 0), order(sampler, 1)
    assert first != second
    assert sorted(map(sorted, first)) != sorted(map(sorted, second)), "epochs mix other samples, too"
    again = BucketSampler(sampler.lengths, sampler.groups, sampler.batch_sizes, seed=5)
    assert order(again, 1) == second
    assert order(again, 0) == first
    other = BucketSampler(sampler.lengths, sampler.groups, sampler.batch_sizes, seed=6)
    assert order(other, 0) != first


def test_batches_hold_nearly_equal_lengths_and_do_not_come_sorted(sampler):
    batches = order(sampler, 0)
    lengths = [sampler.lengths[batch] for batch in batches]
    spread = np.mean([one.max() - one.min() for one in lengths])
    assert spread < 15, "a batch of random samples spreads over about 80"
    longest = np.array([one.max() for one in lengths])
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.4


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(0, 40), max_size=40), tokens=st.integers(1, 100))
def test_token_batches_hold_every_row_once_and_bound_the_padded_size(lengths, tokens):
    content = Ragged.from_lists([[0] * length for length in lengths])
    batches = token_batches(content, tokens)
    assert sorted(np.concatenate([*batches, np.empty(0, int)]).tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(1, content.lengths[batch].max()) <= tokens


def test_token_batches_fill_up():
    content = Ragged.from_lists([[0] * 10] * 100)
    assert [len(batch) for batch in token_batches(content, 105)] == [10] * 10
