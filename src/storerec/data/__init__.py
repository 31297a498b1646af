"""Items, users' histories, their readers and splits."""

from storerec.data.catalogue import Catalogue
from storerec.data.fetch import RegistryFile, registry_file, registry_files
from storerec.data.histories import Histories
from storerec.data.judgement_splits import JudgementSplitConfig, split_judgements
from storerec.data.judgements import Candidates, Judgements, JudgementSplit
from storerec.data.preprocess import (
    MIND_PAPER,
    MIND_TABLE1,
    YELP_PAPER,
    YELP_TABLE1,
    DatasetStats,
    PreprocessConfig,
    Preprocessed,
    preprocess_dataset,
    preprocess_mind,
    preprocess_yelp,
)
from storerec.data.readers import (
    JudgementConfig,
    group_ratings,
    movielens_100k,
    read_amazon,
    read_atomic,
    read_dataset,
    read_events,
    read_items,
    read_judgement_table,
    read_judgements,
    read_mind,
    read_movielens,
    read_yelp,
)
from storerec.data.readers.records import Layout
from storerec.data.splits import Cases, Split, SplitConfig, leave_one_out, split, split_users

__all__ = [
    "MIND_PAPER",
    "MIND_TABLE1",
    "YELP_PAPER",
    "YELP_TABLE1",
    "Candidates",
    "Cases",
    "Catalogue",
    "DatasetStats",
    "Histories",
    "JudgementConfig",
    "JudgementSplit",
    "JudgementSplitConfig",
    "Judgements",
    "Layout",
    "PreprocessConfig",
    "Preprocessed",
    "RegistryFile",
    "Split",
    "SplitConfig",
    "group_ratings",
    "leave_one_out",
    "movielens_100k",
    "preprocess_dataset",
    "preprocess_mind",
    "preprocess_yelp",
    "read_amazon",
    "read_atomic",
    "read_dataset",
    "read_events",
    "read_items",
    "read_judgement_table",
    "read_judgements",
    "read_mind",
    "read_movielens",
    "read_yelp",
    "registry_file",
    "registry_files",
    "split",
    "split_judgements",
    "split_users",
]
