"""Scoring many candidates of one user against one pass per candidate.

    python -m benchmarks.scoring --out runs/bench

SmolLM2-135M, a history of about 100 tokens. Ours reads the history once and packs the candidates behind it under a block
mask; the other reads history and candidate together for each, in batches of 20. Both give the same scores. The bound
counts tokens through the layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.beam_search import CODES, POSITIONS, histories
from benchmarks.harness import arguments, in_turn, row, write
from storerec.codes import CodeTable, CodeTree
from storerec.config import RunOptions
from storerec.llm.backbone import Backbone, BackboneConfig
from storerec.recommender import Recommender, RecommenderConfig
from storerec.recommender.scoring import CodeScorerModel, ScorerConfig
