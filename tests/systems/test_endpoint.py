"""Endpoints: over the wire, with the faults real servers have, and against llama.cpp's own server."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest

from storerec.config import RunOptions
from storerec.data.fetch import SMOLLM2, registry_file
from storerec.errors import ConfigError, EndpointError, MissingExtraError, StorerecWarning
from storerec.llm.backbone import Backbone, BackboneConfig
from storerec.systems.endpoint_answer import Answer, read_answer
from storerec.systems.endpoint_cache import AnswerCache
from storerec.systems.endpoint_config import EndpointConfig
from storerec.systems.endpoint_scorer import EndpointScorer
from storerec.systems.judging import mean_auc
from storerec.systems.llm_scorer import LlmScorer, LlmScorerConfig
from storerec.systems.text_prompt import TextPromptConfig
from tests.systems.text_world import SHORT, catalogue, check_scorer, judgements
from tests.systems.wire import serving

KEY = "sk-very-secret"
LLAMA = Path(__file__).with_name("llama_server.py")


@pytest.fixture
def wire():
    with serving() as server:
        yield server


@pytest.fixture
def make(wire, tmp_path, monkeypatch):
    """A scorer that asks ``wire``."""
    monkeypatch.setenv("WIRE_KEY", KEY)

    def get(**settings):
        usual = {
            "base_url": wire.url, "model": "tiny", "api_key_env": "WIRE_KEY", "prompt": SHORT,
            "requests_per_minute": None, "backoff_seconds": 0.01,
        }  # fmt: skip
        return EndpointScorer(catalogue(), EndpointConfig.parse(usual | settings), tmp_path / "answers.sqlite")

    return get


# reading answers


@pytest.mark.parametrize(
    ("text", "score", "how"),
    [
        ("Yes", 1.0, "by_word"),
        (" YES, because", 1.0, "by_word"),
        ("**no**.", 0.0, "by_word"),
        ("Not at all", 0.5, "unclear"),
        ("I say yes", 0.5, "unclear"),
        ("", 0.5, "unclear"),
    ],
)
def test_words_are_read_as_in_the_paper(text, score, how):
    assert read_answer(Answer(text, None, 1, 1), probabilities=True) == (score, how)


def test_probabilities_of_all_spellings_add_up():
    top = tuple((t, float(np.log(p))) for t, p in [("No", 0.5), ("Yes", 0.2), (" yes", 0.1), ("The", 0.05)])
    answer = Answer("No", top, 1, 1)
    assert read_answer(answer, probabilities=True) == (pytest.approx(0.3 / 0.8), "by_probability")
    assert read_answer(answer, probabilities=False) == (0.0, "by_word")
    one = Answer("No", (top[0], top[3]), 1, 1)  # yes is at most as likely as the last of the list
    assert read_answer(one, probabilities=True)[0] == pytest.approx(0.05 / 0.55)
    neither = Answer("The", (top[3],), 1, 1)
    assert read_answer(neither, probabilities=True) == (0.5, "unclear")


# over the wire


def test_an_endpoint_with_probabilities_keeps_the_protocol(make, wire):
    data, scorer = judgements(12), make()
    check_scorer(scorer, data.candidates)
    scores = scorer.score(data.candidates)
    np.testing.assert_allclose(scores, np.where(data.labels, 0.75 / 0.9, 0.25 / 0.9), rtol=1e-6)
    assert mean_auc(data, scores) == 1.0
    _, body, headers = wire.seen[0]
    assert headers["authorization" if "authorization" in headers else "Authorization"] == f"Bearer {KEY}"
    assert body["model"] == "tiny"
    assert body["temperature"] == 0.0
    assert body["max_tokens"] == 4
    assert body["top_logprobs"] == 20
    assert re.fullmatch(r"Has:(\n- [AB] \d+)+\nNew: [AB] \d+\nFits\?", body["messages"][-1]["content"])


def test_nothing_is_asked_twice(make, wire):
    data, scorer = judgements(12), make()
    first = scorer.score(data.candidates)
    report, asked = scorer.report, len(wire.seen)
    questions = {str(body["messages"]) for _, body, _ in wire.seen}
    assert asked == len(questions) == report.requests < len(first), "some candidates of a group are the same item"
    assert (report.cached, report.by_probability, report.input_tokens, report.output_tokens) == (
        0, asked, 40 * asked, 2 * asked,
    )  # fmt: skip
    again = make()
    np.testing.assert_array_equal(again.score(data.candidates), first)
    assert (again.report.requests, again.report.cached, len(wire.seen)) == (0, asked, asked)
    make(model="other").score(data.candidates)
    make(max_output_tokens=5).score(data.candidates)
    assert len(wire.seen) == 3 * asked, "another model's or setting's answers are others"


def test_words_count_where_a_server_has_no_probabilities(make, wire):
    data = judgements(6)
    wire.logprobs = "null"
    scorer = make()
    np.testing.assert_array_equal(scorer.score(data.candidates), data.labels)
    assert scorer.report.by_word == scorer.report.requests
    wire.logprobs, asked = "refused", len(wire.seen)
    scorer = make(model="another", concurrency=1)
    np.testing.assert_array_equal(scorer.score(data.candidates), data.labels)
    assert len(wire.seen) == asked + scorer.report.requests + 1, "the refusal is seen once"
    wire.logprobs = "given"
    scorer = make(use_logprobs=False)
    np.testing.assert_array_equal(scorer.score(data.candidates), data.labels)
    assert "logprobs" not in wire.seen[-1][1]


@pytest.mark.parametrize("kind", ["null", "refused"])
def test_probabilities_can_be_insisted_on(make, wire, kind):
    wire.logprobs = kind
    with pytest.raises(EndpointError, match="logprobs"):
        make(use_logprobs=True).score(judgements(6).candidates)
    assert len(wire.seen) == 1


def test_unclear_answers_are_counted_and_told(make, wire):
    wire.logprobs, wire.say = "null", "Perhaps"
    data, scorer = judgements(6), make()
    with pytest.warns(StorerecWarning, match=r"(\d+) of \1 answers say neither yes nor no; they score 0.5"):
        scores = scorer.score(data.candidates)
    assert set(scores) == {0.5}
    assert scorer.report.unclear == scorer.report.requests > 0


# limits and faults

BUSY = (429, {"retry-after": "0.6"}, {"error": {"message": "slow down"}})
BROKEN = (500, {}, {"error": {"message": "oops"}})


def test_busy_and_broken_servers_are_asked_again(make, wire):
    data = judgements(6)
    wire.faults = [BROKEN, BUSY, (503, {}, "<html>"), BROKEN]
    scorer = make()
    started = time.monotonic()
    np.testing.assert_array_equal(scorer.score(data.candidates) > 0.5, data.labels)
    assert len(wire.seen) == scorer.report.requests + 4
    assert time.monotonic() - started > 0.6
    assert wire.seen[2][0] - wire.seen[1][0] > 0.59, "Retry-After is kept to"


def test_a_date_to_come_back_at_is_kept_to(make, wire):
    due = int(time.time()) + 4
    wire.faults = [(429, {"retry-after": formatdate(due, usegmt=True)}, {"error": {"message": "wait"}})]
    make().score(judgements(1).candidates)
    assert wire.seen[1][0] + (time.time() - time.monotonic()) >= due - 0.01


@pytest.mark.parametrize(
    ("fault", "words", "asked"),
    [
        ((429, {}, BUSY[2]), r"too many requests or no quota left after 3 tries .*requests_per_minute", 3),
        (BROKEN, r"refuses the request after 3 tries \(status 500: .*oops", 3),
        ((429, {}, {"error": {"message": "pay", "code": "insufficient_quota"}}), "no quota left", 1),
        ((429, {"retry-after": "7200"}, {"error": {"message": "day"}}), "come back in 120 minutes", 1),
        ((401, {}, {"error": {"message": f"wrong key {KEY}"}}), r"the key in WIRE_KEY was refused \(status 401\)", 1),
        ((404, {}, {"error": {"message": "unknown"}}), r"no model 'tiny', or nothing at this address .*unknown", 1),
        ((400, {}, {"error": {"message": "too long"}}), r"refuses the request \(status 400: .*too long", 1),
        ((200, {}, "<html>hello</html>"), "speaks no OpenAI chat protocol; check base_url", 1),
        ((200, {}, {"choices": []}), "speaks no OpenAI chat protocol", 1),
    ],
)
def test_what_cannot_be_helped_is_one_clear_error(make, wire, fault, words, asked):
    wire.faults = [fault] * 20
    with pytest.raises(EndpointError, match=words) as caught:
        make(max_retries=2).score(judgements(6).candidates)
    assert wire.url in str(caught.value)
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(wire.seen) == asked, "the first question goes alone"


def test_no_server_is_told_at_once(make):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{other.getsockname()[1]}/v1"
    started = time.monotonic()
    with pytest.raises(EndpointError, match=r"no answer .*is the server running, and base_url right\?"):
        make(base_url=url, backoff_seconds=60).score(judgements(3).candidates)
    assert time.monotonic() - started < 10


def test_a_failure_in_the_middle_keeps_the_answers_before_it(make, wire):
    data, scorer = judgements(12), make(concurrency=1, max_retries=0)
    wire.faults = [None] * 9 + [BROKEN]
    with pytest.raises(EndpointError, match="oops"):
        scorer.score(data.candidates)
    scorer.score(data.candidates)
    assert scorer.report.cached == 9
    assert wire.answered == 9 + scorer.report.requests


def test_requests_are_spaced_and_few_at_a_time(make, wire):
    scorer = make(requests_per_minute=1500, concurrency=3)
    wire.slow = 0.1
    scorer.score(judgements(5).candidates)
    assert np.diff([moment for moment, _, _ in wire.seen]).mean() > 0.036  # 40 ms apart, and the server's own jitter
    wire.seen.clear()
    make(concurrency=3, model="b").score(judgements(5).candidates)
    assert wire.most == 3


def test_tokens_are_spaced_too(make, wire):
    scorer, data = make(tokens_per_minute=60_000), judgements(4)
    estimate = scorer.estimate(data.candidates)
    scorer.score(data.candidates)
    span = wire.seen[-1][0] - wire.seen[0][0]
    assert span > 0.8 * (estimate.input_tokens * (estimate.requests - 1) / estimate.requests) / 1000


# cost

PRICES = {"price_per_million_input_tokens": 2.0, "price_per_million_output_tokens": 10.0}


def test_the_cost_is_known_before_anything_is_asked(make, wire, monkeypatch):
    data, scorer = judgements(8), make(**PRICES)
    monkeypatch.delenv("WIRE_KEY")
    estimate = scorer.estimate(data.candidates)
    assert wire.seen == []
    monkeypatch.setenv("WIRE_KEY", KEY)
    scorer.score(data.candidates)
    assert estimate.requests == scorer.report.requests == len(wire.seen)
    texts = [[m["content"] for m in body["messages"]] for _, body, _ in wire.seen]
    assert estimate.input_tokens == sum(3 + sum(4 + -(-len(text) // 4) for text in question) for question in texts)
    assert estimate.output_tokens == 4 * estimate.requests
    assert estimate.cost == pytest.approx((2 * estimate.input_tokens + 10 * estimate.output_tokens) / 1e6)
    assert scorer.report.cost == pytest.approx(estimate.requests * (2 * 40 + 10 * 2) / 1e6)
    assert "a quarter of the characters" in str(estimate)
    later = scorer.estimate(data.candidates)
    assert (later.requests, later.cached, later.cost) == (0, estimate.requests, 0)
    assert make().estimate(data.candidates).cost is None


def test_more_than_the_limit_is_refused_before_anything_is_asked(make, wire):
    data = judgements(8)
    with pytest.raises(ConfigError, match=r"requests .* cost about .*, above max_cost 0.0001; raise it"):
        make(**PRICES, max_cost=0.0001).score(data.candidates)
    assert wire.seen == []
    with pytest.raises(ConfigError, match="max_cost needs price_per_million_input_tokens"):
        EndpointConfig.parse({"max_cost": 1})


def test_spending_stops_at_the_limit_when_the_estimate_was_too_low(make, wire):
    data = judgements(8)
    prices = {"price_per_million_input_tokens": 2.0, "price_per_million_output_tokens": 0.0}
    limit, wire.read = make(**prices).estimate(data.candidates).cost, 200
    scorer = make(**prices, max_cost=limit, concurrency=1)
    with pytest.raises(ConfigError, match=r"was spent, above max_cost .* the answers are kept"):
        scorer.score(data.candidates)
    assert len(wire.seen) == int(limit / 400e-6) + 1
    assert scorer.estimate(data.candidates).cached == len(wire.seen)


# the cache and the key


SCRIPT = """
import sys
from pathlib import Path
from storerec.systems.endpoint_config import EndpointConfig
from storerec.systems.endpoint_scorer import EndpointScorer
from tests.systems.text_world import SHORT, catalogue, judgements
config = EndpointConfig(base_url=sys.argv[1], model="tiny", api_key_env="WIRE_KEY", prompt=SHORT,
                        requests_per_minute=None, concurrency=2)
EndpointScorer(catalogue(), config, Path(sys.argv[2])).score(judgements(12).candidates)
"""


def test_a_killed_run_goes_on_where_it_stood(make, wire, tmp_path):
    wire.slow = 0.05
    place = tmp_path / "answers.sqlite"
    child = subprocess.Popen([sys.executable, "-c", SCRIPT, wire.url, str(place)], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 120
    while wire.answered < 12 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    time.sleep(0.2)
    asked = len(wire.seen)
    scorer, data = make(), judgements(12)
    np.testing.assert_array_equal(scorer.score(data.candidates) > 0.5, data.labels)
    assert scorer.report.cached >= 10
    whole = scorer.report.cached + scorer.report.requests
    assert whole <= len(wire.seen) <= whole + 2 + 1, "at most what was under way is asked again"
    assert asked < whole


def test_the_key_is_kept_nowhere(make, tmp_path):
    make().score(judgements(4).candidates)
    for file in tmp_path.iterdir():
        assert KEY.encode() not in file.read_bytes()
    assert KEY not in make().config.model_dump_json()


def test_a_key_that_is_not_set_is_told(make, monkeypatch):
    monkeypatch.delenv("WIRE_KEY")
    with pytest.raises(ConfigError, match="variable WIRE_KEY is not set; put the key there, or set api_key_env"):
        make().score(judgements(4).candidates)


def test_a_server_that_needs_no_key_gets_none(make, wire, monkeypatch):
    monkeypatch.delenv("WIRE_KEY")
    make(api_key_env=None).score(judgements(2).candidates)
    assert "Bearer none" in str(wire.seen[0][2])


def test_a_file_that_is_no_cache_is_told(tmp_path):
    (tmp_path / "note").write_text("hello " * 1000)
    with pytest.raises(ConfigError, match="cannot be used as a cache of answers"):
        AnswerCache(tmp_path / "note")
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE answers (word TEXT)")
    with pytest.raises(ConfigError, match="cannot be used as a cache of answers"):
        AnswerCache(tmp_path / "other.sqlite")


def test_the_client_library_is_an_extra(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'storerec\[openai\]'"):
        make().score(judgements(2).candidates)


# a real server


@pytest.fixture(scope="module")
def llama():
    """llama.cpp's server with the default backbone."""
    pytest.importorskip("xllamacpp", reason="llama.cpp's server is not installed: pip install xllamacpp")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(LLAMA), str(registry_file(SMOLLM2)), str(port), "240"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        lines = iter(child.stdout.readline, "")
        assert any(line.startswith("listening on") for line in lines), "the server ended"
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


@pytest.mark.slow
def test_a_real_server_says_what_the_model_says_here(llama, tmp_path):
    options, data = RunOptions(device="cpu", dtype="float32"), judgements(2, seed=5, candidates=(2, 3))
    backbone, means = Backbone.load(BackboneConfig(), options), []
    for question in ("Will the user like this item? Say yes.", "Will the user like this item? Say no."):
        prompt = TextPromptConfig(max_history=3, question=question)
        config = EndpointConfig(
            base_url=llama, model="smollm2", api_key_env=None, system=None, prompt=prompt, requests_per_minute=None,
            top_logprobs=200, concurrency=2, use_logprobs=True,
        )  # fmt: skip
        scorer = EndpointScorer(catalogue(), config, tmp_path / "answers.sqlite")
        found = scorer.score(data.candidates)
        assert scorer.report.by_probability == scorer.report.requests == 4
        ours = LlmScorer.zero_shot(backbone, catalogue(), LlmScorerConfig(prompt=prompt), options)
        tokens = ours.tokens(data.candidates)
        lengths = tokens.prefixes.lengths[data.candidates.groups] + tokens.suffixes.lengths[tokens.suffix_of]
        assert abs(scorer.report.input_tokens - lengths.sum()) <= len(lengths), "the same prompts, template included"
        # llama.cpp computes with 8-bit activations, we with float32: it moves a probability of .5 by .05
        np.testing.assert_allclose(found, ours.score(data.candidates), atol=0.1)
        means.append(found.mean())
    assert means[0] > means[1] + 0.2, "another question, another answer"


def test_a_real_server_without_probabilities_and_with_faults(llama, tmp_path):
    usual = {"base_url": llama, "model": "smollm2", "api_key_env": None, "requests_per_minute": None}
    data = judgements(2, candidates=(2, 3))
    scorer = EndpointScorer(catalogue(), EndpointConfig.parse(usual | {"use_logprobs": False}), tmp_path / "a.sqlite")
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(StorerecWarning)
        scores = scorer.score(data.candidates)
    assert set(scores) <= {0.0, 0.5, 1.0}
    lost = EndpointConfig.parse(usual | {"base_url": llama + "/nowhere"})
    with pytest.raises(EndpointError, match="nothing at this address"):
        EndpointScorer(catalogue(), lost, tmp_path / "b.sqlite").score(data.candidates)
