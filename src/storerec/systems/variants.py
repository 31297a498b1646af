"""STORE, and STORE but for one thing (the paper's ablations, and ours)."""

from __future__ import annotations

from typing import Any

from storerec.systems.recipe import AS_CODES, Recipe

_PAPER = "arXiv 2409.07276"

STORE = Recipe(
    name="store",
    paper=_PAPER,
    about="dense tokens, k-means codes, text alignment, conditional beam search, weights shared with the tokenizer",
    embedding="dense_tokens",
    coder="kmeans",
    start="tokenizer",
    recommender={"code_init": "cluster_mean", "alignment": True},
    search={"constraint": "tree"},
)
"""All of it."""


def _without(name: str, about: str, *, paper: str = _PAPER, **changes: Any) -> Recipe:
    merged = STORE.model_dump() | {"name": f"store-{name}", "about": about, "paper": paper, "group": "ablation"}
    for field, value in changes.items():
        merged[field] = merged[field] | value if isinstance(value, dict) else value
    return Recipe.parse(merged, source=f"ablation {name}")


ABLATIONS = (
    _without(
        "no-tokenizer",
        "mean-pooled embedding of the untuned language model and RQ-VAE instead of dense tokens",
        embedding="language_model",
        coder="rqvae",
        start="fresh",
        recommender={"code_init": "random"},
    ),
    _without(
        "soft",
        "soft constraint instead of conditional beam search, trained over the position's codes",
        # probabilities over the tree's children say nothing of other codes, which this search may take
        recommender={"normaliser": "position"},
        search={"constraint": "soft"},
    ),
    _without("no-alignment", "no text-token alignment", recommender={"alignment": False}),
    _without("random-init", "code embeddings drawn at random (ours)", recommender={"code_init": "random"}),
    _without("fresh", "the recommender starts from the untuned language model (ours)", start="fresh"),
    _without("codes-only", "as in the paper: histories of codes, no rows of items", recommender=AS_CODES),
    _without("code-history", "histories of codes, with rows of items", recommender={"history": "codes"}),
    _without("no-item-rows", "histories of items, without rows of items", recommender={"item_rows": False}),
    _without("zero-rows", "rows of items start at zero (ours)", recommender={"item_start": "zeros"}),
    _without(
        "whole-rows", "rows of codes and items trained whole (ours)", recommender={"item_rank": None, "code_rank": None}
    ),
    _without("plain-layers", "no dropout inside the layers (ours)", recommender={"residual_dropout": 0.0}),
    _without("extra", "colliding items get a further code (ours)", policy="extra"),
    _without("reassign", "colliding items move to free codes (ours)", policy="reassign"),
    _without("position", "probabilities over the position's codes (ours)", recommender={"normaliser": "position"}),
    _without("vocabulary", "probabilities over the full vocabulary (ours)", recommender={"normaliser": "vocabulary"}),
)
"""The first three are the paper's."""
