"""Histories of codes to the next item's codes: training tasks and conditional beam search (paper, 3.3)."""

from storerec.recommender.config import RecommenderConfig, SearchConfig
from storerec.recommender.decoder import Decoder
from storerec.recommender.model import ADAPTER, Recommender
from storerec.recommender.search import BeamSearch
from storerec.recommender.training import train_recommender
from storerec.recommender.transformer import TransformerRecommender
from storerec.recommender.transformer_config import TransformerConfig
from storerec.recommender.transformer_decoder import TransformerDecoder
from storerec.recommender.transformer_training import train_transformer

__all__ = [
    "ADAPTER",
    "BeamSearch",
    "Decoder",
    "Recommender",
    "RecommenderConfig",
    "SearchConfig",
    "TransformerConfig",
    "TransformerDecoder",
    "TransformerRecommender",
    "train_recommender",
    "train_transformer",
]
