"""Trainings of the systems that are compared, which run in the same loop: small ones of each kind."""

import numpy as np

from storerec.codes import CodeTable
from storerec.data.judgements import Candidates, Judgements, JudgementSplit
from storerec.data.splits import leave_one_out
from storerec.recommender.scoring import ScorerConfig
from storerec.recommender.scoring_training import train_code_scorer
from storerec.recommender.transformer_config import TransformerConfig
from storerec.recommender.transformer_training import train_transformer
from storerec.systems.llm_scorer import LlmScorerConfig, train_llm_scorer
from storerec.systems.sasrec import train_sasrec
from storerec.systems.sasrec_model import SasRecConfig
from tests import worlds
from tests.recommender import worlds as coded
from tests.systems import text_world

ITEMS = 21


def sasrec(training, folder, backbone, options, progress):
    """SASRec, whose validation every process does whole."""
    _, histories = worlds.data(30, ITEMS)
    config = SasRecConfig.parse({"width": 8, "dropout": 0.0, "batch_size": 7, "training": training})
    model, log = train_sasrec(leave_one_out(histories), ITEMS, config, folder, options, progress)
    return {"log": log}, model.state_dict()


def transformer(training, folder, backbone, options, progress):
    """TIGER's Transformer."""
    _, histories = worlds.data(30, ITEMS)
    codes = np.unique(np.random.default_rng(0).integers(0, 4, (200, 3)), axis=0)[:ITEMS].astype(np.int32)
    sizes = {"layers": 1, "heads": 2, "head_width": 4, "width": 8, "feed_forward": 16, "dropout": 0.0}
    config = TransformerConfig.parse(sizes | {"batch_size": 7, "training": training})
    table = CodeTable.build(codes, (4, 4, 4))
    model, logs = train_transformer(leave_one_out(histories), table, config, folder, options, progress)
    return logs, model.state_dict()


def codescorer(training, folder, backbone, options, progress):
    """The yes/no scorer on a recommender."""
    world = coded.make(backbone, policy="extra")  # no two items are alike: rounding would order them
    config = ScorerConfig.parse({"max_history": 5, "lora": {"rank": 2}, "batch_size": 7, "training": training})
    parts = JudgementSplit(judged(23, 0), judged(12, 1), judged(5, 2))
    model, logs = train_code_scorer(world.model, parts, config, folder, options, progress)
    return logs, model.state_dict()


def judged(groups, seed):
    """Random candidates, chosen or not at random."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(2, 9, groups)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    shown = np.concatenate([rng.choice(40, count, replace=False) for count in counts])
    candidates = Candidates(coded.histories(40, groups, seed=seed), offsets, shown)
    return Judgements(candidates, rng.random(offsets[-1]) < 0.4)


def llmscorer(training, folder, backbone, options, progress):
    """The language model as scorer over text."""
    parts = JudgementSplit(*(text_world.judgements(groups, seed=groups) for groups in (23, 12, 5)))
    settings = {"prompt": text_world.SHORT, "lora": {"rank": 2}, "batch_groups": 5, "training": training}
    config = LlmScorerConfig.parse(settings)
    scorer, log = train_llm_scorer(text_world.catalogue(), parts, backbone, config, folder, options, progress)
    return {"log": log}, scorer.model.state_dict()


KINDS = {"sasrec": sasrec, "transformer": transformer, "codescorer": codescorer, "llmscorer": llmscorer}
