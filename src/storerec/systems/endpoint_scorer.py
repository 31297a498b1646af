"""Scoring by any OpenAI-compatible endpoint (paper, Table 5, row GPT-3.5)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from storerec.data.catalogue import Catalogue
from storerec.data.judgements import Candidates
from storerec.errors import ConfigError, StorerecWarning
from storerec.llm.progress import Progress
from storerec.systems.endpoint import Endpoint
from storerec.systems.endpoint_answer import UNCLEAR, Answer, read_answer
from storerec.systems.endpoint_cache import AnswerCache
from storerec.systems.endpoint_config import EndpointConfig
from storerec.systems.endpoint_cost import CostEstimate, EndpointReport, token_counter
from storerec.systems.text_prompt import TextPrompt


@dataclass
class _Work:
    """Questions by key; ``scores`` fills up."""

    keys: list[str]
    missing: dict[str, int]
    scores: dict[str, float]
    report: EndpointReport = field(default_factory=EndpointReport)


class EndpointScorer:
    """P(yes) / (P(yes) + P(no)) of the first token of an endpoint's answer where it gives probabilities; else 1 for
    yes and 0 for no, as in the paper. An answer that says neither is counted, reported, and scores 0.5.

    Answers are kept in ``cache``: an interrupted run goes on where it stood and asks nothing twice. Nothing is asked
    before the estimate is below ``config.max_cost``.

    Parameters
    ----------
    catalogue: the items.
    config: the endpoint.
    cache: an SQLite file, made where there is none.
    """

    def __init__(
        self, catalogue: Catalogue, config: EndpointConfig, cache: Path, *, progress: Progress | None = None
    ) -> None:
        self.name = config.model
        self.config, self.progress = config, progress or Progress(enabled=False)
        self.report: EndpointReport | None = None
        self._prompt, self._cache_path = TextPrompt(catalogue, config.prompt), Path(cache)
        self._count, self._counted_by = token_counter(config.model)

    def estimate(self, candidates: Candidates) -> CostEstimate:
        """What scoring ``candidates`` will take; asks nothing and needs no key."""
        cache = AnswerCache(self._cache_path)
        try:
            return self._estimate(candidates, self._plan(candidates, cache))
        finally:
            cache.close()

    def score(self, candidates: Candidates) -> NDArray[np.float32]:
        """Score each candidate: (n,) in 0..1. :attr:`report` says afterwards what was done.

        Raises
        ------
        ConfigError: the estimate is above ``max_cost`` (before anything is asked), or so much was spent (the answers
            so far are kept); the key is not set; the cache cannot be used.
        EndpointError: the endpoint cannot be reached or refuses; the answers so far are kept.
        MissingExtraError: the client library is not installed.

        Warns
        -----
        StorerecWarning: answers that say neither yes nor no, with their count.
        """
        cache = AnswerCache(self._cache_path)
        try:
            work = self._plan(candidates, cache)
            if work.missing:
                estimate = self._estimate(candidates, work)
                self._refuse(estimate)
                self.progress.say(f"{self.name}: {estimate}")
                self._ask_all(candidates, work, cache)
        finally:
            cache.close()
        self.report = work.report
        if work.report.unclear:
            warnings.warn(
                f"{self.name}: {work.report.unclear} of {len(work.scores)} answers say neither yes nor no; "
                f"they score {UNCLEAR}",
                StorerecWarning,
                stacklevel=2,
            )
        return np.array([work.scores[key] for key in work.keys], np.float32)

    def _plan(self, candidates: Candidates, cache: AnswerCache) -> _Work:
        keys = [self._key(messages) for messages in self._questions(candidates)]
        first = {key: place for place, key in reversed(list(enumerate(keys)))}
        work = _Work(keys, {}, {})
        for key, answer in cache.get(first):
            if answer.top is not None or self.config.use_logprobs is not True:
                self._read(work, key, answer)
        work.report.cached = len(work.scores)
        work.missing = {key: place for place, key in enumerate(keys) if first[key] == place and key not in work.scores}
        return work

    def _questions(
        self, candidates: Candidates, places: NDArray[np.int64] | None = None
    ) -> Iterator[list[dict[str, str]]]:
        """Messages of candidates ``places`` (all by default), one at a time: prompts together can be large."""
        histories = self._prompt.histories(candidates.histories)
        items, groups = candidates.items, candidates.groups
        places = np.arange(len(items)) if places is None else places
        system = [] if self.config.system is None else [{"role": "system", "content": self.config.system}]
        for start in range(0, len(places), 4096):
            part = places[start : start + 4096]
            frame = pl.DataFrame({"history": histories[groups[part]], "item": self._prompt.candidates(items[part])})
            texts = frame.select(pl.lit(self._prompt.instruction) + pl.col("history") + pl.col("item"))
            for text in texts.to_series():
                yield [*system, {"role": "user", "content": text + self._prompt.question}]

    def _key(self, messages: list[dict[str, str]]) -> str:
        config = self.config
        return AnswerCache.key(
            {
                "base_url": config.base_url.rstrip("/"),
                "model": config.model,
                "messages": messages,
                "logprobs": None if config.use_logprobs is False else config.top_logprobs,
                "temperature": config.temperature,
                "max_output_tokens": config.max_output_tokens,
            }
        )

    def _estimate(self, candidates: Candidates, work: _Work) -> CostEstimate:
        places = np.array(sorted(work.missing.values()), np.int64)
        read = sum(self._tokens(messages) for messages in self._questions(candidates, places))
        written = len(places) * self.config.max_output_tokens
        cost = self.config.cost(read, written)
        return CostEstimate(len(places), work.report.cached, read, written, cost, self._counted_by)

    def _tokens(self, messages: list[dict[str, str]]) -> int:
        # a chat format adds about four tokens a message, and three before the answer
        return 3 + sum(4 + self._count(message["content"]) for message in messages)

    def _refuse(self, estimate: CostEstimate) -> None:
        most = self.config.max_cost
        if most is not None and estimate.cost is not None and estimate.cost > most:
            raise ConfigError(f"{self.name}: {estimate}, above max_cost {most:g}; raise it or score fewer candidates")

    def _ask_all(self, candidates: Candidates, work: _Work, cache: AnswerCache) -> None:
        """Ask what is missing; every answer that came is kept, whatever ends this."""
        endpoint, config = Endpoint(self.config), self.config
        order = sorted(work.missing.items(), key=lambda pair: pair[1])
        questions = self._questions(candidates, np.array([place for _, place in order], np.int64))
        todo = zip((key for key, _ in order), questions, strict=True)
        bar = self.progress.start(self.name, len(order), unit="request")
        pending: dict[Future[Answer], str] = {}
        pool = ThreadPoolExecutor(config.concurrency)
        room = 1  # the first question goes alone: a wrong key or model is told once
        try:
            while True:
                for key, messages in islice(todo, room - len(pending)):
                    pending[pool.submit(endpoint.ask, messages, self._tokens(messages))] = key
                if not pending:
                    break
                for done in wait(pending, return_when=FIRST_COMPLETED).done:
                    self._keep(work, cache, pending.pop(done), done.result())
                    self.progress.advance(bar)
                self._check_spent(work.report)
                room = config.concurrency
        finally:
            endpoint.stop()
            pool.shutdown(cancel_futures=True)  # waits for the requests under way: they are paid for
            endpoint.close()
            for future, key in pending.items():
                if not future.cancelled() and future.exception() is None:
                    self._keep(work, cache, key, future.result())
            self.progress.finish(bar)

    def _keep(self, work: _Work, cache: AnswerCache, key: str, answer: Answer) -> None:
        cache.put(key, answer)
        self._read(work, key, answer)
        report = work.report
        report.requests += 1
        report.input_tokens += answer.input_tokens
        report.output_tokens += answer.output_tokens
        report.cost = self.config.cost(report.input_tokens, report.output_tokens)

    def _check_spent(self, report: EndpointReport) -> None:
        most = self.config.max_cost
        if most is not None and report.cost is not None and report.cost > most:
            raise ConfigError(
                f"{self.name}: {report.cost:.4g} was spent, above max_cost {most:g} (the estimate was too low); "
                "the answers are kept: raise max_cost and run again to go on"
            )

    def _read(self, work: _Work, key: str, answer: Answer) -> None:
        work.scores[key], how = read_answer(answer, probabilities=self.config.use_logprobs is not False)
        setattr(work.report, how, getattr(work.report, how) + 1)
