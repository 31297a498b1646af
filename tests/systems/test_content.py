import numpy as np
import pytest

from storerec.data import Histories
from storerec.errors import DataError
from storerec.systems.base import Exclusions
from storerec.systems.content import ContentSimilarity


def histories(*rows):
    ends = np.cumsum([0, *map(len, rows)])
    return Histories.from_arrays(
        [str(i) for i in range(len(rows))], ends, np.array([one for row in rows for one in row], np.int32)
    )


def made(n=40, seed=0):
    dense = np.random.default_rng(seed).standard_normal((n, 2, 5)).astype(np.float32) + 7
    return dense, ContentSimilarity.fit(dense, 30, recent=3)


def test_lists_are_by_cosine_to_the_mean_of_the_last_items():
    dense, system = made()
    past = histories([1, 2, 3, 4], [39], [])
    lists = system.recommend(past, 40, exclude=Exclusions())
    flat = dense.reshape(40, -1).astype(np.float64)
    flat = flat - flat[:30].mean(0)
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    for row, own in enumerate(([2, 3, 4], [39])):
        wanted = unit[own].sum(0)
        cosine = unit @ wanted / np.linalg.norm(wanted)
        assert lists.items[row].tolist() == np.argsort(-cosine, kind="stable").tolist()
        np.testing.assert_allclose(lists.scores[row], np.sort(cosine)[::-1], atol=1e-5)
    assert lists.items[1, 0] == 39
    assert lists.items[2].tolist() == list(range(40))


def test_exclusions_and_short_lists():
    _, system = made()
    some = Exclusions(history=True, items=np.arange(5, 38))
    lists = system.recommend(histories([1, 2, 39], [0]), 12, exclude=some)
    assert set(lists.items[0].tolist()) == {0, 3, 4, 38, -1}
    assert set(lists.items[1].tolist()) == {1, 2, 3, 4, 38, 39, -1}
    assert np.isneginf(lists.scores[0, 4:]).all()
    assert system.recommend(histories([1]), 60, exclude=Exclusions()).items[0, 40:].tolist() == [-1] * 20
    with pytest.raises(DataError, match="item row 40"):
        system.recommend(histories([40]), 3, exclude=Exclusions())
