"""Recipes of the systems over item ids that train in seconds or not at all."""

from __future__ import annotations

from storerec.systems.recipe import Recipe

POPULARITY = Recipe(name="popularity", paper="-", about="most training events", group="baseline", model="popularity")
"""The same list for everyone."""

MARKOV = Recipe(
    name="markov", paper="-", about="what most often followed the last item", group="baseline", model="markov"
)
"""First-order Markov chain."""

SASREC = Recipe(
    name="sasrec",
    paper="Kang and McAuley 2018, arXiv 1808.09781",
    about="causal self-attention over item ids, softmax over the whole catalogue",
    model="sasrec",
)
"""SASRec with the loss that serves it best."""
