"""From tables to a trained STORE: configuration, the run folder, its stages, and the public class."""

from storerec.pipeline.answers import Explanation, Inspection, Recommendation
from storerec.pipeline.bundling import load_inspection
from storerec.pipeline.config import PRESETS, StoreConfig
from storerec.pipeline.demo import run_demo
from storerec.pipeline.evaluate import evaluate_run
from storerec.pipeline.folder import RunFolder
from storerec.pipeline.live import Live
from storerec.pipeline.requests import RecommendAnswer, RecommendRequest, ScoreAnswer, ScoreRequest
from storerec.pipeline.stages import cluster, fit, tokenize, train
from storerec.pipeline.store import STORE

__all__ = [
    "PRESETS",
    "STORE",
    "Explanation",
    "Inspection",
    "Live",
    "RecommendAnswer",
    "RecommendRequest",
    "Recommendation",
    "RunFolder",
    "ScoreAnswer",
    "ScoreRequest",
    "StoreConfig",
    "cluster",
    "evaluate_run",
    "fit",
    "load_inspection",
    "run_demo",
    "tokenize",
    "train",
]
