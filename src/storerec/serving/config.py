"""Settings of the HTTP service."""

from __future__ import annotations

import ipaddress

from pydantic import Field

from storerec.config import Config


class ServingConfig(Config):
    """Where the service listens, how it gathers requests, and what it refuses. The API key is in no configuration."""

    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen at; any that is not a loopback one needs an API key."""

    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen at; 0 takes a free one, which is told at the start."""

    max_batch: int = Field(default=32, ge=1)
    """Most requests that are answered in one batch."""

    max_wait_ms: float = Field(default=5.0, ge=0, le=1000)
    """Milliseconds that the model waits, once it is idle, for more requests to share a batch that is not full."""

    queue_size: int = Field(default=128, ge=1)
    """Requests that may wait for the model; one more is refused with 429 and told when to come back."""

    deadline_seconds: float = Field(default=10.0, gt=0)
    """Longest time to an answer; past it the request is given up with 503. A body must come in this time too."""

    max_requests: int = Field(default=512, ge=1)
    """Requests under way, the ones included whose bodies still come in; one more is refused with 429."""

    max_body_bytes: int = Field(default=1_048_576, ge=1)
    """Longest body of a request."""

    max_history: int = Field(default=1000, ge=1)
    """Longest history of a request; how much of it the model reads is a setting of its training."""

    max_exclude: int = Field(default=1000, ge=1)
    """Most items that one request may exclude."""

    max_k: int = Field(default=100, ge=10)
    """Most items that one request may ask for; a request that does not say asks for 10."""

    max_candidates: int = Field(default=1000, ge=1)
    """Most candidates that one request may have scored."""

    max_items: int = Field(default=100, ge=1)
    """Most items that one request may add."""

    cache_size: int = Field(default=1024, ge=0)
    """Answers that are kept for requests that come again, until an item changes; 0 keeps none."""

    reload_seconds: float = Field(default=2.0, ge=0)
    """How often to look whether the bundle on disk is another one; 0 never looks, a hang-up signal (SIGHUP) still
    reloads."""

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
