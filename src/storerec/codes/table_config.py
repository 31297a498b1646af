"""Settings of the code table."""

from __future__ import annotations

from pydantic import Field

from storerec.codes.collisions import Policy
from storerec.config import Config


class CodeTableConfig(Config):
    """How a code table treats items that share a tuple."""

    policy: Policy = "bucket"
    """bucket: a tuple may lead to several items, told apart by their training counts; extra: append a
    position that numbers them; reassign: move items to the nearest free tuple."""

    smoothing: float = Field(1.0, gt=0)
    """Added to each item's training count before taking its share of its tuple."""
