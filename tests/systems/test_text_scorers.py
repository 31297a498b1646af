"""Scorers over text: exact against one plain pass per candidate, and able to learn a rule that only text shows."""

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import roc_auc_score
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.data.judgements import Candidates, Judgements
from storerec.errors import BackboneError, ConfigError, DataError
from storerec.llm.embeddings import DEFAULT_ENCODER
from storerec.llm.progress import Progress
from storerec.systems.answering import AnswerTokens
from storerec.systems.encoder_scorer import EncoderScorer, EncoderScorerConfig, train_encoder_scorer
from storerec.systems.judging import GroupSamples, mean_auc
from storerec.systems.llm_scorer import LlmScorer, LlmScorerConfig, train_llm_scorer
from storerec.systems.packing import PromptTokens, around
from storerec.systems.text_prompt import TextPrompt, TextPromptConfig
from tests.systems.text_world import SHORT, catalogue, check_scorer, judgements, split

OPTIONS = RunOptions(device="cpu", dtype="float32")
QUIET = Progress(enabled=False)


# the prompt


def test_the_prompt_reads_as_a_person_would_write_it():
    frame = pl.DataFrame(
        {"item_id": ["a", "b", "c"], "title": ["One", " Two\n lines ", ""], "kind": ["x", "", "z" * 9]}
    )
    items = Catalogue.from_frame(frame)
    prompt = TextPrompt(items, TextPromptConfig(max_history=2, max_item_chars=7))
    users = Histories.from_arrays(["u", "v"], np.array([0, 3, 3]), np.array([0, 2, 1]))
    assert prompt.histories(users).to_list() == ["\n- unknown item\n- Two lin", "\n(none yet)"]
    assert prompt.candidates(np.array([1, 0])).to_list() == ["\nAnother item: Two lines", "\nAnother item: One"]
    named = TextPrompt(items, TextPromptConfig(attributes=("title", "kind"), max_candidate_chars=13))
    assert named.texts(np.arange(3)).to_list() == ["title: One; k", "title: Two li", "kind: zzzzzzz"]


@pytest.mark.parametrize("names", [("colour",), ()])
def test_an_attribute_the_items_lack_is_told(names):
    with pytest.raises(ConfigError, match="the items have: title, size"):
        TextPrompt(catalogue(), TextPromptConfig(attributes=names))


def test_tokens_are_cut_where_candidates_begin_to_differ(load_backbone):
    backbone, data = load_backbone(), judgements(9, empty=True)
    prompt = TextPrompt(catalogue(), SHORT)
    found = PromptTokens.build(
        data.candidates, prompt, backbone, chat=True, max_history_tokens=1000, max_candidate_tokens=1000
    )
    decode = backbone.tokenizer.decode
    histories, texts = prompt.histories(data.candidates.histories), prompt.candidates(data.candidates.items)
    for place, group in enumerate(data.candidates.groups):
        prefix = found.prefixes.flat[found.prefixes.offsets[group] : found.prefixes.offsets[group + 1]]
        row = found.suffix_of[place]
        suffix = found.suffixes.flat[found.suffixes.offsets[row] : found.suffixes.offsets[row + 1]]
        assert decode(prefix) == "Has:" + histories[int(group)]
        assert decode(suffix) == texts[place] + "\nFits?\nAnswer:"
    short = PromptTokens.build(
        data.candidates, prompt, backbone, chat=True, max_history_tokens=4, max_candidate_tokens=5
    )
    head, tail = backbone.encode(["Has:", "\nFits?\nAnswer:"], max_tokens=99).lengths
    assert set(short.prefixes.lengths) == {head + 4}
    assert set(short.suffixes.lengths) == {5 + tail}
    for group in range(9):
        np.testing.assert_array_equal(
            short.prefixes.flat[short.prefixes.offsets[group + 1] - 4 :][:4],
            found.prefixes.flat[found.prefixes.offsets[group + 1] - 4 :][:4],
        )


def test_a_chat_template_goes_around(load_backbone):
    backbone = load_backbone()
    backbone.tokenizer.chat_template = "{% for m in messages %}<U>{{ m['content'] }}</U>{% endfor %}<A>"
    prompt = TextPrompt(catalogue(), SHORT)
    assert around(backbone, prompt, chat=True) == ("<U>", "</U><A>")
    assert around(backbone, prompt, chat=False) == ("", "\nAnswer:")


# the language model


def plain_scores(backbone, tokens, candidates):
    """One forward pass over each whole prompt, by the model's own text head."""
    yes, no = AnswerTokens.find(backbone).yes, AnswerTokens.find(backbone).no
    scores = []
    for place, group in enumerate(candidates.groups):
        prefix = tokens.prefixes.padded(np.array([group]))[0][0]
        suffix = tokens.suffixes.padded(tokens.suffix_of[[place]])[0][0]
        ids = torch.from_numpy(np.concatenate([prefix, suffix]))[None]
        with torch.no_grad():
            chances = backbone.model(ids).logits[0, -1].double().softmax(-1)
        up, down = chances[list(yes)].sum(), chances[list(no)].sum()
        scores.append(float(up / (up + down)))
    return np.array(scores)


@pytest.mark.parametrize("batch_tokens", [4096, 150, 1])
def test_sharing_the_history_is_exact(family, load_backbone, batch_tokens):
    backbone, data = load_backbone(family, "float64"), judgements(12, seed=4, candidates=(0, 7), empty=True)
    config = LlmScorerConfig(prompt=SHORT, batch_tokens=batch_tokens)
    options = RunOptions(device="cpu", dtype="float64", inference_dtype="float64")
    scorer = LlmScorer.zero_shot(backbone, catalogue(), config, options)
    expected = plain_scores(backbone, scorer.tokens(data.candidates), data.candidates)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(scorer.score(data.candidates), expected, rtol=1e-6)


def test_zero_shot_keeps_the_protocol(family, load_backbone):
    scorer = LlmScorer.zero_shot(load_backbone(family), catalogue(), LlmScorerConfig(prompt=SHORT), OPTIONS)
    assert scorer.name == "llm-zeroshot"
    assert not scorer.model.backbone.model.training
    check_scorer(scorer, judgements(12, seed=4, empty=True).candidates)


def test_all_spellings_of_an_answer_that_are_one_token_count(load_backbone):
    backbone = load_backbone()
    first = AnswerTokens.find(backbone)  # neither word is one token of the tiny vocabulary
    assert len(first.yes) == len(first.no) == 1
    assert first.yes != first.no
    backbone.tokenizer.add_tokens(["Yes", " yes", "no"])
    found, name = AnswerTokens.find(backbone), backbone.tokenizer.convert_ids_to_tokens
    assert {name(i) for i in found.yes} == {"Yes", " yes"}
    assert {name(i) for i in found.no} == {"no"}


def test_prompts_longer_than_the_model_are_told(load_backbone):
    config = LlmScorerConfig(prompt=SHORT.model_copy(update={"question": "really " * 300}))
    scorer = LlmScorer.zero_shot(load_backbone(), catalogue(), config, OPTIONS)
    with pytest.raises(ConfigError, match="reads 512; lower max_history_tokens"):
        scorer.score(judgements(3).candidates)


LEARN = {"learning_rate": 1e-2, "epochs": 4, "warmup": 0.05, "patience": 2}


@pytest.mark.parametrize("family", ["llama", "qwen"])
def test_fine_tuning_learns_what_only_text_shows(family, load_backbone, tmp_path):
    parts, backbone = split(64), load_backbone(family)
    config = LlmScorerConfig.parse({"prompt": SHORT, "lora": {"rank": 16}, "training": LEARN, "batch_groups": 8})
    before = LlmScorer.zero_shot(backbone, catalogue(), config, OPTIONS).score(parts.test.candidates)
    assert mean_auc(parts.test, before) < 0.75
    scorer, log = train_llm_scorer(catalogue(), parts, backbone, config, tmp_path, OPTIONS, QUIET)
    assert scorer.name == "llm-finetuned"
    scores = scorer.score(parts.test.candidates)
    assert mean_auc(parts.test, scores) > 0.9
    best = max(entry["eval_auc"] for entry in log if "eval_auc" in entry)
    assert mean_auc(parts.validation, scorer.score(parts.validation.candidates)) == pytest.approx(best, abs=1e-3)
    check_scorer(scorer, parts.test.candidates.select(np.arange(12)))
    zero = LlmScorer.zero_shot(backbone, catalogue(), config, OPTIONS)
    np.testing.assert_array_equal(
        zero.score(parts.test.candidates), before, "the language model itself has not changed"
    )
    np.testing.assert_array_equal(scorer.score(parts.test.candidates), scores)
    again, same = train_llm_scorer(catalogue(), parts, load_backbone(family), config, tmp_path, OPTIONS, QUIET)
    assert same == log
    np.testing.assert_array_equal(again.score(parts.test.candidates), scores)


# the encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """Folder of a tiny random BERT whose tokens are words."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "-", "none", "A", "B", *map(str, range(30))]
    core = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    words = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )
    torch.manual_seed(3)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    # larger first weights than usual, so that attention differs visibly between inputs
    config = BertConfig(vocab_size=len(names), max_position_embeddings=64, initializer_range=0.3, **shape)
    model = BertModel(config)
    folder = tmp_path_factory.mktemp("bert")
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def encoder_config(folder, **settings):
    short = {"max_history_tokens": 12, "max_candidate_tokens": 6, "batch_tokens": 200}
    return EncoderScorerConfig.parse({"name": str(folder), "prompt": SHORT} | short | settings)


def test_zero_shot_is_the_cosine_of_mean_pooled_texts(encoder):
    data = judgements(12, seed=4, empty=True)
    scorer = EncoderScorer.zero_shot(catalogue(), encoder_config(encoder), OPTIONS)
    assert scorer.name == "encoder-zeroshot"
    check_scorer(scorer, data.candidates)
    prompt, words, bert = TextPrompt(catalogue(), SHORT), scorer.model.tokenizer, scorer.model.encoder

    def vector(text):
        ids = [2, *words(text, add_special_tokens=False)["input_ids"], 3]
        with torch.no_grad():
            return bert(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0)

    histories, texts = prompt.histories(data.candidates.histories), prompt.texts(data.candidates.items)
    expected = [
        float(torch.cosine_similarity(vector(histories[int(g)]), vector(texts[i]), dim=0))
        for i, g in enumerate(data.candidates.groups)
    ]
    np.testing.assert_allclose(scorer.score(data.candidates), expected, rtol=1e-4, atol=1e-6)


def test_pairs_are_what_berts_are_trained_with(encoder):
    data = judgements(7, seed=6, empty=True)
    scorer = EncoderScorer.zero_shot(catalogue(), encoder_config(encoder, max_history_tokens=5), OPTIONS)
    tokens, words = scorer.tokens(data.candidates), scorer.model.tokenizer
    prompt, order = TextPrompt(catalogue(), SHORT), np.random.default_rng(0).permutation(len(data.labels))
    batch = tokens.pairs(order)
    for row, place in enumerate(order):
        real = int(batch["attention_mask"][row].sum())
        assert real == tokens.lengths[place]
        first = words(prompt.histories(data.candidates.histories)[int(data.candidates.groups[place])])["input_ids"][-5:]
        second = words(prompt.texts(data.candidates.items)[int(place)])["input_ids"]
        assert batch["input_ids"][row, :real].tolist() == [2, *first, 3, *second, 3]
        assert batch["token_type_ids"][row].sum() == len(second) + 1
        assert batch["attention_mask"][row, :real].all()


def test_a_fine_tuned_encoder_learns_what_only_text_shows(encoder, tmp_path):
    parts = split(96)
    learn = {"learning_rate": 3e-3, "epochs": 10, "warmup": 0.05, "patience": 4}
    config = encoder_config(encoder, training=learn)
    scorer, log = train_encoder_scorer(catalogue(), parts, config, tmp_path, OPTIONS, QUIET)
    assert scorer.name == "encoder-finetuned"
    scores = scorer.score(parts.test.candidates)
    assert mean_auc(parts.test, scores) > 0.9
    assert ((scores >= 0) & (scores <= 1)).all()
    check_scorer(scorer, parts.test.candidates.select(np.arange(12)))
    best = max(entry["eval_auc"] for entry in log if "eval_auc" in entry)
    assert mean_auc(parts.validation, scorer.score(parts.validation.candidates)) == pytest.approx(best, abs=1e-3)
    again, same = train_encoder_scorer(catalogue(), parts, config, tmp_path, OPTIONS, QUIET)
    assert same == log
    np.testing.assert_array_equal(again.score(parts.test.candidates), scores)


def test_texts_longer_than_the_encoder_are_told(encoder):
    with pytest.raises(ConfigError, match=r"is 67, but .* reads 64"):
        EncoderScorer.zero_shot(catalogue(), encoder_config(encoder, max_history_tokens=58), OPTIONS)


def test_a_tokenizer_without_bert_tokens_is_told(encoder):
    scorer = EncoderScorer.zero_shot(catalogue(), encoder_config(encoder), OPTIONS)
    scorer.model.tokenizer.cls_token = None
    with pytest.raises(BackboneError, match=r"no \[CLS\] and \[SEP\]"):
        scorer.score(judgements(3).candidates)


@pytest.mark.slow
def test_the_default_encoder_knows_what_films_are_like():
    dark, light = ["The Haunted House", "Night of Ghosts", "A Zombie Story"], ["Funny Wedding", "Paris", "A Romance"]
    frame = pl.DataFrame({"item_id": list("abcdef"), "title": [*dark, *light]})
    users = Histories.from_arrays(["u", "v"], np.array([0, 2, 4]), np.array([0, 1, 3, 4]))
    both = Candidates(users, np.array([0, 2, 4]), np.array([2, 5, 2, 5]))
    scorer = EncoderScorer.zero_shot(Catalogue.from_frame(frame), EncoderScorerConfig(name=DEFAULT_ENCODER), OPTIONS)
    scores = scorer.score(both)
    assert scores[0] > scores[1] + 0.05
    assert scores[3] > scores[2] + 0.05


# judging


def test_the_mean_auc_is_that_of_scikit_learn_ties_included():
    data, rng = judgements(60, candidates=(0, 9), seed=8), np.random.default_rng(1)
    for scores in (rng.random(len(data.labels)), rng.integers(3, size=len(data.labels)).astype(float)):
        each = [
            roc_auc_score(data.labels[a:b], scores[a:b])
            for a, b in zip(data.candidates.offsets[:-1], data.candidates.offsets[1:], strict=True)
            if 0 < data.labels[a:b].sum() < b - a
        ]
        assert 10 < len(each) < 60
        assert mean_auc(data, scores) == pytest.approx(np.mean(each))
    assert np.isnan(
        mean_auc(data.select(data.positives == 0), np.zeros(data.candidates.lengths[data.positives == 0].sum()))
    )


def test_large_groups_give_other_candidates_each_epoch_half_of_them_positive():
    data = judgements(30, candidates=(2, 30), seed=9)
    samples = GroupSamples(data, 6, seed=3)
    drawn = []
    for epoch in range(3):
        samples.set_epoch(epoch)
        chosen = [samples[i] for i in range(len(samples))]
        drawn.append(np.concatenate([places for _, places in chosen]))
        for (group, places), length in zip(chosen, samples.lengths, strict=True):
            start, stop = data.candidates.offsets[group : group + 2]
            assert len(places) == length == min(6, stop - start)
            assert len(set(places)) == len(places)
            assert ((places >= start) & (places < stop)).all()
            assert (np.diff(places) > 0).all()
            if length == 6 and min(data.positives[group], data.negatives[group]) >= 3:
                assert data.labels[places].sum() == 3
            assert data.labels[places].any()
    assert set(samples.groups) == set(np.flatnonzero((data.positives > 0) & (data.negatives > 0)))
    assert not np.array_equal(drawn[0], drawn[1])
    samples.set_epoch(0)
    np.testing.assert_array_equal(np.concatenate([samples[i][1] for i in range(len(samples))]), drawn[0])


def test_judgements_of_one_kind_cannot_be_learned_from():
    data = judgements(8)
    with pytest.raises(DataError, match="a positive and a negative"):
        GroupSamples(Judgements(data.candidates, np.ones_like(data.labels)), 4, seed=0)
