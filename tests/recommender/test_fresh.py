"""The recommender on a backbone that no dense tokenizer has touched: how P5, TIGER with an LLM and LC-Rec start."""

import numpy as np
import pytest
import torch

from storerec.codes import CodeTable, CodeTree
from storerec.config import RunOptions
from storerec.data.splits import leave_one_out
from storerec.llm.progress import Progress
from storerec.recommender import Recommender, RecommenderConfig, SearchConfig, train_recommender
from tests import worlds

OPTIONS = RunOptions(device="cpu", progress=False)
UNIQUE = np.arange(24, dtype=np.int32)[:, None], (24,)
PAIRS = np.stack([np.arange(24) % 5, np.arange(24) // 5], axis=1).astype(np.int32), (5, 5)
BATCH = {
    "context": torch.tensor([[5, 9, 11, 4], [7, 8, 3, 0]]),
    "context_lengths": torch.tensor([4, 3]),
    "items": torch.tensor([[1, 2, 3], [4, 5, 0]]),
    "targets": torch.tensor([[True, True, True], [True, True, False]]),
}


@pytest.mark.parametrize("codes", [UNIQUE, PAIRS], ids=["unique ids", "tuples"])
@pytest.mark.parametrize("changes", [{}, {"layers": 1}, {"tuning": "full"}, {"tuning": "full", "layers": 2}])
def test_gradients_reach_exactly_what_is_trained(family, load_backbone, codes, changes):
    backbone = load_backbone(family)
    before = {name: p.clone() for name, p in backbone.model.named_parameters()}
    config = RecommenderConfig(max_history=5, **{"lora": {"rank": 2}} | changes)
    model = Recommender(backbone, config, CodeTree.from_table(CodeTable.build(*codes)), None)
    model.train_only_own()
    optimizer = torch.optim.SGD(model.trained().values(), lr=0.1)
    model(**BATCH)["loss"].backward()
    touched = {id(p) for p in model.parameters() if p.grad is not None}
    assert touched == {id(p) for p in model.trained().values()}
    optimizer.step()
    # plain weights keep their names where no adapter wraps them, and their values everywhere
    after = {name.replace(".base_layer", ""): p for name, p in backbone.model.named_parameters()}
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


@pytest.mark.parametrize("alignment", [False, True])
@pytest.mark.parametrize("changes", [{}, {"tuning": "full", "layers": 1}])
def test_it_trains_on_unique_ids_and_takes_up_what_is_finished(load_backbone, tmp_path, alignment, changes):
    catalogue, histories = worlds.data(users=12)
    phase = {"epochs": 1, "learning_rate": 5e-3}
    settings = {"max_history": 6, "lora": {"rank": 2}, "batch_size": 8, "joint": phase, "alone": phase}
    config = RecommenderConfig.parse({"alignment": alignment} | settings | changes)

    def fit():
        return train_recommender(
            catalogue, leave_one_out(histories), CodeTable.build(*UNIQUE), None, load_backbone(), config,
            tmp_path, OPTIONS, Progress(enabled=False), search=SearchConfig(beam=5),
        )  # fmt: skip

    model, logs = fit()
    assert list(logs) == (["joint", "alone"] if alignment else ["alone"])
    assert all("eval_ndcg@10" in log[-1] or "eval_ndcg@10" in log[-2] for log in logs.values())
    again, same = fit()
    assert same == logs
    assert all(torch.equal(p, again.trained()[name]) for name, p in model.trained().items())
