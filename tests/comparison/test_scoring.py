"""Scoring of judged candidates in `storerec compare`: every row of the paper's Table 5 from raw MIND and Yelp files."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
from typer.testing import CliRunner

from storerec.cli import app
from storerec.comparison import ComparisonConfig, Grid, compare, load_data, resolve, resolve_scorers
from storerec.comparison.config import merged
from storerec.comparison.judged import Judged, check_judgements, has_judgements
from storerec.comparison.scoring import Judging, score_tasks
from storerec.comparison.trial import Trial
from storerec.comparison.work import CellTask, ScoreTask, Work
from storerec.config import RunOptions
from storerec.data.judgements import Candidates, Judgements
from storerec.data.splits import split
from storerec.errors import ConfigError, DataError
from storerec.systems.registry import RECIPES, SCORERS
from tests import worlds
from tests.systems.wire import serving

OPTIONS = RunOptions(device="cpu", dtype="float32", progress=False)
WORDS = ("golf", "rates", "senate")
ITEMS, USERS = 24, 40
pytestmark = pytest.mark.filterwarnings("ignore::storerec.errors.StorerecWarning")


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """Folder of a tiny random BERT whose tokens are words."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "-", *WORDS, *map(str, range(30))]
    core = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    words = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )
    torch.manual_seed(3)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    folder = tmp_path_factory.mktemp("bert")
    BertModel(BertConfig(vocab_size=len(names), max_position_embeddings=64, **shape)).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def walks(seed=0):
    """Users who stay with one word: (user, word, items seen before, candidates with labels)."""
    rng = np.random.default_rng(seed)
    for user in range(USERS):
        word = int(rng.integers(len(WORDS)))
        kind = rng.permutation(np.arange(word, ITEMS, len(WORDS)))
        other = rng.permutation(np.setdiff1d(np.arange(ITEMS), kind))
        yield f"U{user}", kind[:5], [(i, True) for i in kind[5:7]] + [(i, False) for i in other[:3]]


@pytest.fixture(scope="module")
def mind(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mind")
    news = [
        (f"N{i}", "news", f"sub{i % 2}", f"{WORDS[i % 3]} {i}", f"about {WORDS[i % 3]}", "http://x", "[]", "[]")
        for i in range(ITEMS)
    ]
    (folder / "news.tsv").write_text("".join("\t".join(row) + "\n" for row in news), encoding="utf-8")
    rows = []
    for user, seen, shown in walks():
        history = " ".join(f"N{i}" for i in seen)
        # the second impression shows an item of the history again, as real ones do
        for number, part in enumerate((shown, [*shown[1:], (seen[0], False)])):
            texts = " ".join(f"N{i}-{int(label)}" for i, label in part)
            rows.append((f"{user}-{number}", user, "11/15/2019 8:55:22 AM", history, texts))
    (folder / "behaviors.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def yelp(tmp_path_factory):
    folder = tmp_path_factory.mktemp("yelp")
    shops = [
        {"business_id": f"b{i}", "name": f"{WORDS[i % 3]} {i}", "address": "1 Road", "city": "Tampa", "state": "FL"}
        for i in range(ITEMS)
    ]
    reviews = []
    for user, seen, shown in walks():
        for day, (item, liked) in enumerate([*((i, True) for i in seen), *shown]):
            stars = 5.0 if liked else 1.0
            row = {"user_id": user, "business_id": f"b{item}", "stars": stars, "date": f"2018-07-{day + 1:02} 10:00:00"}
            reviews.append(row)
    for name, lines in (("business", shops), ("review", reviews)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"yelp_academic_dataset_{name}.json").write_text(text)
    return folder


def settings(backbone, bert, **changes):
    """The smallest comparison that goes through everything, split by users."""
    few = {"max_steps": 4}
    store = worlds.config(backbone, joint=few, alone=few).model_dump()
    store["tokenizer"]["training"]["max_steps"] = 4
    store["split"] = {"protocol": "users", "test_users": 10, "validation_share": 0.2}
    brief = {"training": {"max_steps": 4, "learning_rate": 1e-3}}
    short = {"max_history": 3, "max_item_chars": 12, "max_candidate_chars": 12}
    scoring = {
        "scorer": brief | {"lora": {"rank": 4}, "max_history": 5},
        "llm": brief | {"lora": {"rank": 4}, "prompt": short},
        "encoder": brief | {"name": str(bert), "prompt": short, "max_history_tokens": 30, "max_candidate_tokens": 10},
    }
    base = {
        "store": store,
        "rqvae": {"levels": 3, "codes": 4, "latent": 8, "hidden": [16], "epochs": 3},
        "encoder": {"source": "encoder", "name": str(bert)},
        "scoring": scoring,
    }
    return ComparisonConfig.parse(merged(base, changes))


def run(data, config, names, folder, said=None, seeds=(1,)):
    scorers, notes = resolve_scorers(names, data, config)
    grid = Grid(resolve(names), seeds, jobs=0, scorers=scorers, notes=notes)
    return compare(data, config, grid, folder, OPTIONS, (said if said is not None else []).append)


def test_mind_every_scorer_beside_rankings(mind, tiny_backbone, bert, tmp_path):
    data, config = load_data(f"mind:{mind}"), settings(tiny_backbone(), bert)
    said = []
    result = run(data, config, ["popularity", "store", "scorers"], tmp_path / "out", said)
    expected = [name for name in SCORERS if name != "score-openai"]
    assert list(result.scoring.systems) == expected
    assert not result.scoring.failures
    assert list(result.ranking.systems) == ["popularity", "store"]
    assert result.scoring.reference == "score-store"
    assert set(result.scoring.differences) == set(expected) - {"score-store"}
    assert result.scoring.groups == 20  # ten users, two impressions each
    report = (tmp_path / "out" / "report" / "report.md").read_text(encoding="utf-8")
    assert all(name in report for name in (*expected, ".6505", ".5057"))  # ours, and the paper's beside them
    assert "10 test candidates are items of the history" in report
    # the recommender of the rankings is the one below the scorer: stages are shared
    assert len(list((tmp_path / "out" / "stages").glob("tokenizer-*"))) == 1
    assert len(list((tmp_path / "out" / "stages").glob("model-*"))) == 3
    assert any("score-openai was left out" in line for line in said)
    stages = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "stages").glob("*/done.json")}
    again = run(data, config, ["popularity", "store", "scorers"], tmp_path / "out", said := [])
    assert any(f"{len(expected)}/{len(expected)} stand from an earlier call" in line for line in said)
    assert stages == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "stages").glob("*/done.json")}
    assert again.scoring.systems == result.scoring.systems


def test_yelp_scorers_alone_under_leave_one_out(yelp, tiny_backbone, bert, tmp_path):
    data = load_data(f"yelp:{yelp}")
    own = {"protocol": "users", "test_users": 12, "validation_share": 0.2}
    config = settings(tiny_backbone(), bert, scoring={"split": own, "test_groups": 8})
    config = config.model_copy(update={"store": config.store.model_copy(update={"split": type(config.store.split)()})})
    result = run(data, config, ["scorers"], tmp_path / "out")
    assert result.ranking is None
    assert list(result.scoring.systems) == [name for name in SCORERS if name != "score-openai"]
    assert result.scoring.groups + result.scoring.dropped == 8
    assert any(note.startswith("8 of 12 test groups with both kinds") for note in result.scoring.notes)
    folder = tmp_path / "out"
    assert (folder / "report" / "scoring.json").is_file()
    assert not (folder / "report" / "comparison.json").exists()
    for identity in (folder / "stages").glob("model-*/identity.json"):
        assert json.loads(identity.read_text())["split"]["test_users"] == 12


def test_scores_do_not_depend_on_test_labels(mind, tiny_backbone, bert, tmp_path):
    data, config = load_data(f"mind:{mind}"), settings(tiny_backbone(), bert)
    parts = Judging.prepare(data, config).parts
    swapped = replace(parts, test=replace(parts.test, labels=~parts.test.labels))
    one, other = (Judged.save(p, tmp_path / name) for name, p in (("one", parts), ("other", swapped)))
    assert one.digest == other.digest
    (tmp_path / "one" / "test-labels.safetensors").unlink()
    read = Judged.open(tmp_path / "one")
    assert read.digest == one.digest
    np.testing.assert_array_equal(read.train.labels, parts.train.labels)
    np.testing.assert_array_equal(read.test.items, parts.test.candidates.items)
    assert read.train.user_ids.to_list() == parts.train.user_ids.to_list()
    flipped = replace(parts, train=replace(parts.train, labels=~parts.train.labels))
    assert Judged.save(flipped, tmp_path / "flipped").digest != one.digest


def test_leaks_are_found(yelp, tiny_backbone, bert):
    data, config = load_data(f"yelp:{yelp}"), settings(tiny_backbone(), bert)
    base = split(data.histories, config.store.split, config.split_seed)
    parts = Judging.prepare(data, config).parts
    known = replace(parts, train=parts.test)
    with pytest.raises(DataError, match=r"test user 'U.*' is among the training judgements"):
        check_judgements(known, base, shown_again=False)
    with pytest.raises(DataError, match="is among the training histories"):
        check_judgements(parts, replace(base, train=data.histories), shown_again=False)
    test = parts.test.candidates
    items = test.items.copy()
    items[test.offsets[2]] = test.histories.sequence(2)[0]
    seen = Judgements(Candidates(test.histories, test.offsets, items), parts.test.labels, parts.test.users)
    with pytest.raises(DataError, match=f"test group '{test.histories.user_ids[2]}': candidate row .* own history"):
        check_judgements(replace(parts, test=seen), base, shown_again=False)
    assert check_judgements(replace(parts, test=seen), base, shown_again=True)[0].startswith("1 test candidates")


def test_a_failing_scorer_stops_no_other(yelp, tiny_backbone, bert, tmp_path):
    broken = {"encoder": {"name": str(tmp_path / "nothing")}}
    data, config = load_data(f"yelp:{yelp}"), settings(tiny_backbone(), bert, scoring=broken)
    result = run(data, config, ["score-popularity", "score-markov", "score-bert-zero"], tmp_path / "out")
    assert list(result.scoring.systems) == ["score-popularity", "score-markov"]
    assert "could not be loaded" in result.scoring.failures["score-bert-zero, seed 1"]
    assert "could not be loaded" in (tmp_path / "out" / "report" / "report.md").read_text(encoding="utf-8")


def test_an_endpoint_needs_settings_and_its_cost_is_told(yelp, tiny_backbone, bert, tmp_path):
    data, config = load_data(f"yelp:{yelp}"), settings(tiny_backbone(), bert)
    with pytest.raises(ConfigError, match=r"give its settings as scoring\.endpoint"):
        resolve_scorers(["score-openai"], data, config)
    prices = {"price_per_million_input_tokens": 1e6, "price_per_million_output_tokens": 1e6, "max_cost": 1.0}
    config = settings(tiny_backbone(), bert, scoring={"endpoint": {"api_key_env": None} | prices})
    said = []
    result = run(data, config, ["score-popularity", "score-openai"], tmp_path / "out", said)
    assert any(line.startswith("score-openai: ") and "requests" in line and "cost about" in line for line in said)
    assert "above max_cost" in result.scoring.failures["score-openai, seed 1"]  # and nothing was asked


def test_an_endpoint_is_a_scorer_like_others(yelp, tiny_backbone, bert, tmp_path):
    data, folder = load_data(f"yelp:{yelp}"), tmp_path / "out"
    with serving() as server:
        there = {"base_url": server.url, "api_key_env": None, "requests_per_minute": None}
        endpoint = there | {"prompt": {"candidate": "New:"}, "model": "tiny"}
        config = settings(tiny_backbone(), bert, scoring={"endpoint": endpoint})
        result = run(data, config, ["score-popularity", "score-openai"], folder)
        asked = len(server.seen)
        assert asked == len(Judging.prepare(data, config).parts.test.labels)
        run(data, config, ["score-openai"], folder)
        assert len(server.seen) == asked
    # the server says yes to a candidate whose first word stands in the history, and that is what users like
    assert result.scoring.systems["score-openai"].metrics["auc"].value == 1
    assert "asked" in (folder / "report" / "report.md").read_text(encoding="utf-8")


def test_own_tables_with_ratings(tmp_path):
    worlds.items().write_csv(tmp_path / "items.csv")
    worlds.events().write_csv(tmp_path / "events.csv")
    config = ComparisonConfig()
    bare = load_data(str(tmp_path))
    assert not has_judgements(bare)
    scorers, notes = resolve_scorers(["all"], bare, config)
    assert scorers == ()
    assert notes[0].startswith("scorers were left out")
    with pytest.raises(DataError, match="has no judgements to score"):
        resolve_scorers(["score-store"], bare, config)
    rated = worlds.events(users=60).with_columns(rating=pl.int_range(pl.len()) % 5 + 1)
    rated.write_csv(tmp_path / "events.csv")
    data = load_data(str(tmp_path))
    scorers, _ = resolve_scorers(["all"], data, config)
    assert [scorer.name for scorer in scorers] == [name for name in SCORERS if name != "score-openai"]
    result = run(data, config, ["score-popularity", "score-markov"], tmp_path / "out")
    assert result.scoring.groups > 0


def test_scorers_that_draw_nothing_have_one_seed(yelp, tiny_backbone, bert):
    parts = Judging.prepare(load_data(f"yelp:{yelp}"), settings(tiny_backbone(), bert)).parts
    judged = Judged(parts.train, parts.validation, parts.test.candidates, "digest")
    tasks = score_tasks(list(SCORERS.values()), (3, 1), {"store": Trial(rate=0.5)}, Trial(rate=2.0), judged)
    seeds = {name: [task.seed for task in tasks if task.system == name] for name in SCORERS}
    assert seeds["score-store"] == seeds["score-bert-tuned"] == [3, 1]
    assert seeds["score-llm-zero"] == seeds["score-markov"] == seeds["score-openai"] == [3]
    rates = {task.system: task.trial.rate for task in tasks}
    # the rate of the recommender's trials, else the default; nothing else has one
    assert (rates["score-store"], rates["score-lc-rec"], rates["score-llm-tuned"]) == (0.5, 2.0, 1.0)


def test_program(yelp, tmp_path):
    own = {"store": {"split": {"protocol": "users", "test_users": 10}, "evaluation": {"bootstrap_samples": 50}}}
    (tmp_path / "own.json").write_text(json.dumps(own))
    told = ["compare", "--data", f"yelp:{yelp}", "--out", str(tmp_path / "out"), "--seeds", "1", "--jobs", "0"]
    told += ["--systems", "score-popularity,markov", "--config", str(tmp_path / "own.json"), "--device", "cpu"]
    ran = CliRunner().invoke(app, told)
    assert ran.exit_code == 0, ran.output
    assert "score-popularity" in ran.stdout
    assert "AUC" in ran.stdout
    for name in ("comparison.json", "scoring.json", "report.html"):
        assert (tmp_path / "out" / "report" / name).is_file()
    bad = CliRunner().invoke(app, [*told[:-4], "--systems", "score-nothing"])
    assert bad.exit_code == 2
    assert "no system 'score-nothing'" in bad.output


def test_scoring_changes_no_task_of_rankings(tmp_path, tiny_backbone, bert):
    plain = settings(tiny_backbone(), bert)
    other = settings(tiny_backbone(), bert, scoring={"test_groups": 3})
    works = [Work(tmp_path, config, "cpu", "float32", "data") for config in (plain, other)]
    lists = CellTask(recipe=RECIPES["store"], seed=1)
    assert works[0].digest(lists) == works[1].digest(lists)
    scores = ScoreTask(scorer=SCORERS["score-store"], seed=1, judgements="x")
    assert works[0].digest(scores) != works[1].digest(scores)
    (tmp_path / "tasks").mkdir()
    for task in (lists, scores):
        works[0].write_task(task)
        assert works[0].task(task.name) == task
