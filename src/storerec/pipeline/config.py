"""One configuration for the whole method, and its presets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from storerec.codes import ClustererConfig, CodeTableConfig
from storerec.config import Config, merged
from storerec.data.splits import SplitConfig
from storerec.errors import ConfigError
from storerec.evaluation import EvaluationConfig
from storerec.llm.backbone import BackboneConfig
from storerec.llm.prompts import Prompts
from storerec.recommender import RecommenderConfig, SearchConfig
from storerec.tokenizer import TokenizerConfig


class StoreConfig(Config):
    """Everything that decides what STORE computes. The defaults are the paper's where it speaks."""

    backbone: BackboneConfig = BackboneConfig()
    """The language model."""

    split: SplitConfig = SplitConfig()
    """How histories are split into training, validation and test."""

    tokenizer: TokenizerConfig = TokenizerConfig()
    """Text to dense tokens."""

    clusterer: ClustererConfig = ClustererConfig()
    """Dense tokens to codes."""

    codes: CodeTableConfig = CodeTableConfig()
    """What happens to items that get the same codes."""

    recommender: RecommenderConfig = RecommenderConfig()
    """Histories of codes to the next item's codes."""

    search: SearchConfig = SearchConfig()
    """Conditional beam search."""

    evaluation: EvaluationConfig = EvaluationConfig()
    """Metrics and intervals."""

    @classmethod
    def assembled(cls, preset: str | None, file: Path | None) -> StoreConfig:
        """Settings of a file, of a preset (``cpu`` by default), or the file's fields over the preset's.

        Raises
        ------
        ConfigError: no such preset, or the file is missing or wrong.
        """
        if file is None:
            return cls.preset(preset or "cpu")
        own = cls.read(file)
        if preset is None:
            return own
        base = cls.preset(preset).model_dump()
        return cls.parse(merged(base, own.model_dump(exclude_unset=True)), source=str(file))

    @classmethod
    def preset(cls, name: str) -> StoreConfig:
        """Return a preset by name; raises :class:`ConfigError` for an unknown one."""
        if name not in _PRESETS:
            raise ConfigError(f"no preset '{name}'; there are: {', '.join(PRESETS)}")
        return cls.parse(_PRESETS[name], source=f"preset {name}")


_PAPER: dict[str, Any] = {
    "backbone": {"name": "facebook/opt-350m"},
    "split": {"protocol": "users", "test_users": 5000, "validation_share": 0.1, "max_items": 20},
    "recommender": {
        "loss_positions": "last",
        "joint": {"learning_rate": 5e-4, "epochs": 20, "patience": 5},
        "alone": {"learning_rate": 5e-4, "epochs": 20, "patience": 5},
    },
}

_CPU_PHASE: dict[str, Any] = {
    "learning_rate": 1.5e-3,
    "weight_decay": 0.1,
    "schedule": "constant_with_warmup",
    "average": 0.999,
}

_PRESETS: dict[str, dict[str, Any]] = {
    # 2 cores and no GPU. Tokenizer: all layers, few steps. Recommender: the first two layers, with LoRA.
    "cpu": {
        "tokenizer": {
            "batch_items": 32,
            "max_content_tokens": 96,
            "max_task_tokens": 48,
            "training": {"learning_rate": 1e-3, "epochs": 20, "max_steps": 20, "checkpoint_steps": 10},
        },
        "recommender": {
            "layers": 2,
            "tuning": "lora",
            "lora": {"rank": 32},
            "centre_codes": True,
            # What moved MovieLens-100K's validation NDCG@10 (histories excluded, one run each): .084 without any of
            # these, .097 with averaged weights, .104 with rows of items too, .109 with histories of items too (few of
            # the branches are no worse and a third faster), .113 averaged over a third of the training, .117 with
            # rows that start from co-occurrence and dropout inside the layers, all with layers trained whole; .127
            # with LoRA and few numbers per item, .134 and more with half the dropout that whole layers needed.
            "history": "items",
            "item_rows": True,
            "item_rank": 64,
            "code_rank": 32,
            "item_start": "cooccurrence",
            "code_share": 0.1,
            "dropout": 0.2,
            "residual_dropout": 0.15,
            "prompts": Prompts.short().model_dump(),
            "batch_size": 16,
            "validation_users": 1000,
            "joint": _CPU_PHASE | {"epochs": 1, "warmup": 0.1},
            "alone": _CPU_PHASE | {"epochs": 10, "warmup": 0.0, "patience": 4},
        },
        "search": {"item_weight": 0.75},
    },
    "paper-mind": _PAPER | {"tokenizer": {"content": ["title", "abstract"], "generate": ["category", "subcategory"]}},
    "paper-yelp": _PAPER | {"tokenizer": {"content": ["name", "city", "address"], "generate": ["state"]}},
}

PRESETS = tuple(_PRESETS)
