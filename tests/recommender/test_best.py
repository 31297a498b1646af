import pytest
import torch

from storerec.recommender.best import best


@pytest.mark.parametrize(("rows", "n", "k"), [(3, 64 * 400, 20), (1, 4096, 5), (2, 4097, 5), (2, 128, 128), (1, 64, 1)])
def test_the_largest_are_those_of_topk(rows, n, k):
    scores = torch.rand(rows, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores[:, : n // 2] = -torch.inf
    scores[0, 70 % n] = 2.0
    kept = min(k, n // 2)
    for ours, theirs in zip(best(scores, kept), scores.topk(kept), strict=True):
        assert torch.equal(ours, theirs)


def test_where_too_few_are_left_the_rest_is_minus_infinity():
    scores = torch.full((2, 64 * 100), -torch.inf)
    scores[0, 5], scores[1, 6399] = 1.0, 2.0
    value, place = best(scores, 3)
    assert value.tolist() == [[1.0, -torch.inf, -torch.inf], [2.0, -torch.inf, -torch.inf]]
    assert place[:, 0].tolist() == [5, 6399]
    assert all(len(set(row)) == 3 for row in place.tolist())
