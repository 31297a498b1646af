"""Base of all component configurations, and the run options that are no part of any of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from storerec.errors import ConfigError


class Config(BaseModel):
    """A frozen, strict configuration: unknown fields are errors, and equal settings compare and hash equal."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)

    @classmethod
    def parse(cls, values: object, *, source: str = "configuration") -> Self:
        """Validate ``values``; on failure raise :class:`ConfigError` that names ``source``, the field and the fault."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or '(top level)'}: {e['msg']}" for e in error.errors())
            raise ConfigError(f"{source}: {faults}") from None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a JSON file; raises :class:`ConfigError` when it is missing, is not JSON or has bad fields."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"{path}: no such file") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not valid JSON ({error})") from None
        return cls.parse(values, source=str(path))


def merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """``own`` over ``base``, field by field within nested settings."""
    out = dict(base)
    for name, value in own.items():
        inner = base.get(name)
        out[name] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return out


class RunOptions(Config):
    """Where and how a run computes; never what it computes. Kept apart from component configurations."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device; auto takes a GPU when there is one."""

    seed: int = 0
    """Seed of all random choices: initial weights, sampling order, k-means, splits, bootstrap."""

    dtype: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    """Arithmetic of training; auto takes bfloat16 only where the processor multiplies it natively. float64 holds the
    weights in it, so that encoding and searching compute in it too."""

    inference_dtype: Literal["auto", "float32", "bfloat16", "float64"] = "float32"
    """Arithmetic of encoding and searching. float32 by default, so that published codes and lists do not depend
    on the processor; float64 needs dtype float64."""

    fused: bool = True
    """Search and score on a copy of the layers that is made for it: adapters merged, maps joined. False saves the
    copy's memory; each step then takes several times as long where there are adapters."""

    int8: bool = False
    """Multiply in 8-bit integers where the layers search or score: about twice as fast on a CPU, with other lists
    (docs/performance.md has the overlap). Encoding never does, so that codes do not change. Needs ``fused``."""

    sharded: bool = False
    """Divide the language model's frozen layers over the processes that train together (FSDP), so that larger ones fit.
    In one process it changes nothing."""

    progress: bool = True
    """Show progress bars with rates and remaining time."""


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
