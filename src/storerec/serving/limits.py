"""Limits that are settings: checked in requests, and written into the OpenAPI document."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from storerec.serving.config import ServingConfig
from storerec.serving.refusals import LimitError

# model -> field -> (keyword of JSON schema, setting)
_LIMITS: dict[str, dict[str, tuple[str, str]]] = {
    "RecommendBody": {
        "history": ("maxItems", "max_history"),
        "k": ("maximum", "max_k"),
        "exclude": ("maxItems", "max_exclude"),
    },
    "ScoreBody": {"history": ("maxItems", "max_history"), "candidates": ("maxItems", "max_candidates")},
    "AddBody": {"items": ("maxItems", "max_items")},
    "WhyBody": {"history": ("maxItems", "max_history")},
}


def check(body: BaseModel, config: ServingConfig) -> None:
    """Raise :class:`LimitError`, which names the field, where a list is too long or a number too large."""
    for field, (_, setting) in _LIMITS[type(body).__name__].items():
        value, most = getattr(body, field), getattr(config, setting)
        if isinstance(value, list) and len(value) > most:
            raise LimitError(f"{field}: {len(value)} entries, at most {most} are taken")
        if isinstance(value, int) and value > most:
            raise LimitError(f"{field}: {value} is too large, at most {most} is taken")


def describe(document: dict[str, Any], config: ServingConfig) -> None:
    """Write the limits into an OpenAPI document."""
    for model, fields in _LIMITS.items():
        properties = document["components"]["schemas"][model]["properties"]
        for field, (keyword, setting) in fields.items():
            properties[field][keyword] = getattr(config, setting)
