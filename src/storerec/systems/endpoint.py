"""Asking an OpenAI-compatible chat endpoint: limits, further tries, and errors in one line."""

from __future__ import annotations

import email.utils
import random
import time
from types import ModuleType
from typing import Any

from storerec.errors import EndpointError, MissingExtraError
from storerec.systems.endpoint_answer import Answer
from storerec.systems.endpoint_config import EndpointConfig
from storerec.systems.rate import RateLimit

_LONGEST_PAUSE = 60.0
_LONGEST_WISH = 900.0


class Endpoint:
    """A chat endpoint behind its limits; may be asked from several threads.

    Raises
    ------
    MissingExtraError: the client library is not installed.
    ConfigError: the environment variable of the key is not set.
    """

    def __init__(self, config: EndpointConfig) -> None:
        self.config, self._openai = config, _client_library()
        self._client = self._openai.OpenAI(
            api_key=config.key(), base_url=config.base_url, timeout=config.timeout, max_retries=0
        )
        self._requests, self._tokens = RateLimit(config.requests_per_minute), RateLimit(config.tokens_per_minute)
        self._logprobs = config.use_logprobs is not False
        self._reached = False

    def ask(self, messages: list[dict[str, str]], tokens: int) -> Answer:
        """Put one question of about ``tokens`` tokens, again where that may help.

        Raises
        ------
        EndpointError: with the reason and what to do.
        StoppedError: the work was given up meanwhile.
        """
        tried = 0
        while True:
            self._requests.take()
            self._tokens.take(tokens)
            logprobs = self._logprobs
            try:
                return self._answer(self._client.chat.completions.create(**self._question(messages, logprobs)))
            except self._openai.APIError as error:
                if logprobs and self.config.use_logprobs == "auto" and _is_about_logprobs(error):
                    self._logprobs = False  # this server has none: from now on its words count
                    continue
                self._pause_or_raise(error, tried)
                tried += 1

    def stop(self) -> None:
        """Let requests under way end and start no further ones."""
        self._requests.stop()
        self._tokens.stop()

    def close(self) -> None:
        """Close the connections; call it when no request is under way."""
        self._client.close()

    def _question(self, messages: list[dict[str, str]], logprobs: bool) -> dict[str, Any]:
        config = self.config
        question: dict[str, Any] = {"model": config.model, "messages": messages}
        question[config.token_limit_field] = config.max_output_tokens
        if config.temperature is not None:
            question["temperature"] = config.temperature
        if logprobs:
            question |= {"logprobs": True, "top_logprobs": config.top_logprobs}
        return question

    def _answer(self, response: Any) -> Answer:
        self._reached = True
        try:
            choice = response.choices[0]
            said = getattr(choice.logprobs, "content", None) if choice.logprobs else None
            top = tuple((t.token, float(t.logprob)) for t in said[0].top_logprobs) if said else None
            usage = response.usage
            read, written = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
            answer = Answer(choice.message.content or "", top or None, read, written)
        except (AttributeError, IndexError, KeyError, TypeError):
            raise EndpointError(
                f"{self.config.base_url}: what answers there speaks no OpenAI chat protocol; check base_url "
                "(it usually ends in /v1)"
            ) from None
        if self.config.use_logprobs is True and answer.top is None:
            raise EndpointError(
                f"{self.config.base_url}: '{self.config.model}' gives no probabilities; set use_logprobs to auto"
            )
        return answer

    def _pause_or_raise(self, error: Any, tried: int) -> None:
        """Wait as the server or the back-off says before another try, or raise what cannot be helped by one."""
        openai, config = self._openai, self.config
        status = getattr(error, "status_code", None)
        silent = isinstance(error, openai.APIConnectionError)
        # a server that never answered is not there; one that did may come back
        may_help = status in (408, 409, 429) or (status or 0) >= 500 or (silent and self._reached)
        if isinstance(error, openai.APITimeoutError):
            may_help = True
        wish = _retry_after(error)
        if not may_help or error.code == "insufficient_quota" or tried >= config.max_retries or wish > _LONGEST_WISH:
            raise EndpointError(self._reason(error, status, tried, wish)) from None
        pause = min(_LONGEST_PAUSE, config.backoff_seconds * 2**tried) * random.uniform(0.5, 1.0)
        if wish:
            self._requests.hold(wish)  # for all threads: each would be refused
        self._requests.wait(max(wish, pause))

    def _reason(self, error: Any, status: int | None, tried: int, wish: float) -> str:
        config, again = self.config, f" after {tried + 1} tries" if tried else ""
        said = " ".join(str(getattr(error, "message", error)).split())[:200]
        if status is None:
            return f"{config.base_url}: no answer{again} ({said}); is the server running, and base_url right?"
        if status in (401, 403):  # what the server says here can repeat parts of the key
            where = f"in {config.api_key_env} " if config.api_key_env else ""
            return f"{config.base_url}: the key {where}was refused (status {status})"
        if status == 404:
            return f"{config.base_url}: no model '{config.model}', or nothing at this address ({said})"
        if wish > _LONGEST_WISH:
            return f"{config.base_url}: asks to come back in {wish / 60:.0f} minutes ({said}); run again then"
        if status == 429:
            return f"{config.base_url}: too many requests or no quota left{again} ({said}); lower requests_per_minute"
        return f"{config.base_url}: refuses the request{again} (status {status}: {said})"


def _client_library() -> ModuleType:
    try:
        import openai
    except ImportError:
        raise MissingExtraError(
            "endpoints need the openai client; install it with: pip install 'storerec[openai]'"
        ) from None
    return openai


def _is_about_logprobs(error: Any) -> bool:
    return getattr(error, "status_code", None) in (400, 422) and "logprob" in str(error).lower()


def _retry_after(error: Any) -> float:
    """Seconds the server asks to wait (a number or a date); 0 when it does not say."""
    response = getattr(error, "response", None)
    said = response.headers.get("retry-after", "") if response is not None else ""
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    except (TypeError, ValueError, IndexError):
        return 0.0
