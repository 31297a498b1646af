"""Where the service listens: the rule of who may reach it without a key, and the socket."""

from __future__ import annotations

import socket

from storerec.errors import ConfigError
from storerec.serving.config import ServingConfig


def check_reach(config: ServingConfig, api_key: str | None) -> None:
    """ConfigError where others than this machine could reach the service and no key keeps them out."""
    if api_key is None and not config.is_local:
        raise ConfigError(
            f"--host {config.host} can be reached from other machines: give an API key (--api-key-file FILE, or the "
            "environment variable STOREREC_API_KEY), or listen at 127.0.0.1"
        )


def bound(config: ServingConfig) -> socket.socket:
    """A socket at the address of the configuration; ConfigError where there can be none."""
    try:
        found = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"--host {config.host}: no address to listen at ({error.strerror})") from None
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError as error:
        made.close()
        raise ConfigError(f"cannot listen at {config.host}, port {config.port} ({error.strerror})") from None
    return made


def url_of(host: str, port: int) -> str:
    """How a browser asks there."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
