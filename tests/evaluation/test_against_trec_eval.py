"""Our full-ranking metrics against trec_eval's, through its Python bindings."""

import numpy as np
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from storerec.evaluation import item_ranks, ndcg, recall, reciprocal_rank, user_metrics

KS = (1, 5, 10, 20)
NAMES = (
    {f"recall@{k}": f"recall_{k}" for k in KS} | {f"ndcg@{k}": f"ndcg_cut_{k}" for k in KS} | {"mrr@20": "recip_rank"}
)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_recall_ndcg_and_mrr_agree(seed):
    rng = np.random.default_rng(seed)
    users, n_items = 15, 40
    items = np.stack([rng.permutation(n_items)[:20] for _ in range(users)])
    items[np.arange(20) >= rng.integers(0, 21, users)[:, None]] = -1
    targets = rng.integers(0, n_items, users)
    ours = user_metrics(item_ranks(items, targets), KS, mrr=True)
    wanted = {str(u): {str(t): 1} for u, t in enumerate(targets.tolist())}
    # trec_eval orders by score and breaks ties by id, so scores fall strictly. It skips users without a list.
    run = {str(u): {str(i): 100.0 - p for p, i in enumerate(row) if i >= 0} for u, row in enumerate(items.tolist())}
    measures = {f"recall.{','.join(map(str, KS))}", f"ndcg_cut.{','.join(map(str, KS))}", "recip_rank"}
    theirs = pytrec_eval.RelevanceEvaluator(wanted, measures).evaluate(run)
    for name, other in NAMES.items():
        expected = [theirs.get(str(u), {}).get(other, 0.0) for u in range(users)]
        np.testing.assert_allclose(ours[name], expected, atol=1e-6, err_msg=name)


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=50), st.integers(1, 25))
def test_ndcg_is_never_above_recall(ranks, k):
    ranks = np.array(ranks)
    assert (ndcg(ranks, k) <= recall(ranks, k)).all()
    assert (reciprocal_rank(ranks, k) <= ndcg(ranks, k)).all()
    assert (recall(ranks, k) <= recall(ranks, k + 1)).all()
