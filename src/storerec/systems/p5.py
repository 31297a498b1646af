"""P5: the language model over unique item ids as tokens (arXiv 2203.13366)."""

from __future__ import annotations

from storerec.systems.recipe import AS_CODES, Recipe

P5 = Recipe(
    name="p5",
    paper="Geng et al. 2022, arXiv 2203.13366",
    about="the language model over one new token per item, drawn at random",
    coder="unique",
    recommender=AS_CODES | {"code_init": "random", "alignment": False},
)
"""A code table of one position: each item is a token of its own, so search is a softmax over the catalogue. Of P5's
many instructions the sequential one is kept, as in the STORE paper's table."""
