"""The yes/no scorer: packing, what is trained, and a rule it must learn."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from storerec.config import RunOptions
from storerec.data import Candidates, Histories, Judgements, JudgementSplit
from storerec.errors import ConfigError, DataError
from storerec.llm.progress import Progress
from storerec.llm.prompts import Prompts
from storerec.recommender import scoring_inference
from storerec.recommender.scoring import CodeScorer, ScorerConfig
from storerec.recommender.scoring_inference import opening_of, predict
from storerec.recommender.scoring_training import (
    ScoringSamples,
    check_scorer_room,
    mean_auc,
    train_code_scorer,
)
from tests.recommender import worlds

OPTIONS = RunOptions(device="cpu", dtype="float32", progress=False)
QUIET = Progress(enabled=False)


def random_candidates(groups=6, items=40, *, longest=7, most=5, seed=0):
    """Groups with 0 to ``most`` candidates, some of them with empty histories."""
    rng = np.random.default_rng(seed)
    lengths, counts = rng.integers(0, longest + 1, groups), rng.integers(0, most + 1, groups)
    lengths[0], counts[0], counts[1] = 0, most, 0
    past = np.concatenate([[0], np.cumsum(lengths)])
    histories = Histories.from_arrays([f"g{g}" for g in range(groups)], past, rng.integers(0, items, past[-1]))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return Candidates(histories, offsets, rng.integers(0, items, offsets[-1]))


def noisy(model):
    """All that is trained moved away from where it starts."""
    with torch.no_grad():
        for name, parameter in model.trained().items():
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
            parameter.add_(noise.to(parameter) * 0.2)
    return model.requires_grad_(False).eval()


def one_by_one(model, recommender, candidates):
    """Each candidate alone: plain causal sequences without mask, packing, padding or batches."""
    model.use_adapters()
    margins = []
    for group, item in zip(candidates.groups, candidates.items, strict=True):
        past = torch.as_tensor(candidates.histories.sequence(group)[-model.settings.max_history :].astype(np.int64))
        own = torch.as_tensor([int(item)])
        vectors = model.code_inputs[model.tree.item_codes[past] + model.offsets]  # (items, positions, width)
        if recommender.settings.history == "items":
            vectors = vectors.sum(1, keepdim=True) / model.tree.levels**0.5
        if recommender.settings.item_rows:
            vectors = vectors.clone()
            vectors[:, -1] += recommender.items.inputs[past]
        shown = model.code_inputs[model.tree.item_codes[own] + model.offsets]
        words = [model.backbone.embed(ids) for ids in (model.instruction, model.question)]
        inputs = torch.cat([words[0], vectors.flatten(0, 1), shown.flatten(0, 1), words[1]])[None]
        with torch.no_grad():
            last = model.base(inputs_embeds=inputs, use_cache=False).last_hidden_state[0, -1]
        yes, no = (model.head @ last).tolist()
        margins.append(yes - no)
    return np.array(margins)


@pytest.mark.parametrize(("history", "item_rows"), [("items", True), ("items", False), ("codes", True)])
def test_histories_are_read_as_the_recommender_reads_them(load_backbone, history, item_rows):
    world = worlds.make(load_backbone("llama", "float64"), tuning="full", history=history, item_rows=item_rows)
    model = noisy(CodeScorer(world.model, ScorerConfig(max_history=5, packed=3)))
    candidates = random_candidates()
    np.testing.assert_allclose(
        predict(model, candidates, torch.float64), one_by_one(model, world.model, candidates), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize(
    ("recommender", "tuning"),
    [("lora", "head"), ("lora", "lora"), ("lora", "full"), ("full", "lora"), ("full", "full")],
)
def test_a_packed_pass_equals_one_pass_per_candidate(family, load_backbone, recommender, tuning):
    world = worlds.make(load_backbone(family, "float64"), tuning=recommender, layers=2)
    model = noisy(CodeScorer(world.model, ScorerConfig(tuning=tuning, max_history=5, packed=3, lora={"rank": 2})))
    candidates = random_candidates()
    packed = predict(model, candidates, torch.float64)
    assert np.ptp(packed) > 0.01
    np.testing.assert_allclose(packed, one_by_one(model, world.model, candidates), rtol=1e-9, atol=1e-9)
    # the packing of training, which reads history and candidates in one pass
    samples = ScoringSamples(candidates, None, model)
    batch = samples.collate(np.arange(len(samples)))
    model.use_adapters()
    logits = model.logits(batch["history"], batch["lengths"], batch["candidates"])
    trained = (logits[..., 0] - logits[..., 1])[batch["told"]]
    np.testing.assert_allclose(trained.numpy(), packed, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("fused", [True, False])
def test_many_candidates_are_read_some_at_a_time(family, load_backbone, monkeypatch, fused):
    monkeypatch.setattr(scoring_inference, "_TOGETHER", 3)
    world = worlds.make(load_backbone(family), layers=2)
    model = noisy(CodeScorer(world.model, ScorerConfig(max_history=5, lora={"rank": 2})))
    candidates = random_candidates(most=11)
    found = predict(model, candidates, torch.float32, opening=opening_of(model, torch.float32, fused=fused))
    np.testing.assert_allclose(found, one_by_one(model, world.model, candidates), atol=1e-4, rtol=1e-4)


def test_other_candidates_and_groups_do_not_change_a_score(load_backbone):
    world = worlds.make(load_backbone("gpt2", "float64"))
    model = noisy(CodeScorer(world.model, ScorerConfig(max_history=5, lora={"rank": 2})))
    candidates = random_candidates()
    margins = predict(model, candidates, torch.float64)
    order = np.random.default_rng(0).permutation(len(candidates))
    mixed = predict(model, candidates.select(order), torch.float64)
    np.testing.assert_allclose(mixed, margins[candidates.places(order)], rtol=1e-9)
    assert predict(model, candidates.select(np.zeros(0, int)), torch.float64).shape == (0,)


@pytest.mark.parametrize("tuning", ["head", "lora", "full"])
@pytest.mark.parametrize("recommender", ["lora", "full"])
def test_the_recommender_stays_as_it_was(family, load_backbone, recommender, tuning):
    world = worlds.make(load_backbone(family), tuning=recommender, layers=2)
    candidates = random_candidates()
    before = {name: tensor.clone() for name, tensor in world.model.state_dict().items()}
    expected = worlds.exact_scores(world, world.histories, "children")
    model = CodeScorer(world.model, ScorerConfig(tuning=tuning, max_history=5, lora={"rank": 2}))
    model.train_only_own()
    samples = ScoringSamples(candidates, np.arange(len(candidates.items)) % 2 == 0, model)
    noisy(model)
    model.train_only_own()
    model(**samples.collate([0, 1, 2]))["loss"].backward()
    touched = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert touched == set(model.trained())
    assert not [name for name, parameter in model.trained().items() if not parameter.grad.abs().max() > 0]
    assert world.model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in world.model.state_dict().items())
    np.testing.assert_array_equal(worlds.exact_scores(world, world.histories, "children"), expected)


def test_the_head_starts_at_the_words_of_the_text_head(load_backbone):
    backbone = load_backbone("llama")
    prompts = {"score_yes": "z", "score_no": "q"}  # one token each
    world = worlds.make(backbone, prompts=prompts)
    model = CodeScorer(world.model, ScorerConfig(tuning="head", head_scale=0.5))
    ids = [int(backbone.encode([text], max_tokens=9).flat[0]) for text in ("z", "q")]
    rows = backbone.model.get_output_embeddings().weight[ids]
    torch.testing.assert_close(model.head.detach(), 0.5 * rows.detach())


def planted(groups, seed, items=40):
    """A candidate is chosen when its first code is that of the history's last item."""
    rng = np.random.default_rng(seed)
    first = worlds_codes()[:, 0]
    lengths, count = rng.integers(1, 4, groups), 6
    past = np.concatenate([[0], np.cumsum(lengths)])
    history = rng.integers(0, items, past[-1])
    last = history[past[1:] - 1]
    shown = rng.integers(0, items, (groups, count))
    for column in range(count // 2):  # half of the candidates follow the rule
        shown[:, column] = [rng.choice(np.flatnonzero(first == first[item])) for item in last]
    histories = Histories.from_arrays([f"{seed}-{g}" for g in range(groups)], past, history)
    candidates = Candidates(histories, np.arange(groups + 1) * count, shown.ravel())
    return Judgements(candidates, first[candidates.items] == np.repeat(first[last], count))


def worlds_codes():
    rng = np.random.default_rng(1)
    return np.stack([rng.integers(0, size, 40) for size in worlds.SIZES], axis=1)


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_planted_rule_is_learned(load_backbone, tmp_path, tuning):
    world = worlds.make(load_backbone("llama"), tuning=tuning, layers=2, prompts=Prompts.short())
    assert (world.table.codes == worlds_codes()).all()
    split = JudgementSplit(planted(400, 0), planted(40, 1), planted(60, 2))
    training = {"learning_rate": 5e-3, "epochs": 16, "patience": 3}
    config = ScorerConfig(max_history=5, lora={"rank": 8}, batch_size=16, training=training)
    model, logs = train_code_scorer(world.model, split, config, tmp_path, OPTIONS, QUIET)
    test = split.test.drop_one_sided()
    assert mean_auc(test, predict(model, test.candidates, torch.float32)) > 0.9
    assert max(entry.get("eval_auc", 0) for entry in logs["scorer"]) > 0.9
    # the labels decide: with them turned round the same training learns the opposite
    again, _ = (
        train_code_scorer(world.model, split, config, tmp_path, OPTIONS, QUIET) if tuning == "full" else (model, 0)
    )
    margins = [predict(one, test.candidates, torch.float32) for one in (model, again)]
    np.testing.assert_array_equal(*margins)  # a finished training is read back, not done again


def test_auc_is_scikit_learns_with_ties():
    rng = np.random.default_rng(0)
    candidates = random_candidates(30, most=9)
    judgements = Judgements(candidates, rng.random(len(candidates.items)) < 0.4).drop_one_sided()
    scores = rng.integers(0, 4, len(judgements.labels)).astype(float)
    ends = judgements.candidates.offsets
    each = [roc_auc_score(judgements.labels[a:b], scores[a:b]) for a, b in itertools.pairwise(ends)]
    assert mean_auc(judgements, scores) == pytest.approx(np.mean(each))


def test_what_cannot_be_trained_is_said(load_backbone, tmp_path):
    world = worlds.make(load_backbone("opt"))
    one = planted(5, 0)
    only = Judgements(one.candidates, np.ones(len(one.labels), bool))
    with pytest.raises(DataError, match="both kinds"):
        train_code_scorer(world.model, JudgementSplit(only, one, one), ScorerConfig(), tmp_path, OPTIONS, QUIET)
    with pytest.raises(ConfigError, match="max_history"):
        check_scorer_room(CodeScorer(world.model, ScorerConfig(tuning="head", max_history=400)))
    CodeScorer(world.model, ScorerConfig(tuning="lora"))
    with pytest.raises(ConfigError, match="already"):
        CodeScorer(world.model, ScorerConfig(tuning="lora"))
