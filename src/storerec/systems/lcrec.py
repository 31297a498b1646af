"""LC-Rec: RQ-VAE codes of a language model's embedding, aligned with language (arXiv 2311.09049)."""

from __future__ import annotations

from storerec.systems.recipe import AS_CODES, Recipe

LC_REC = Recipe(
    name="lc-rec",
    paper="Zheng et al. 2024, arXiv 2311.09049",
    about="larger language model's embedding, RQ-VAE codes mapped uniformly, alignment with text, soft constraint",
    embedding="larger_language_model",
    coder="rqvae_uniform",
    recommender=AS_CODES
    | {
        "code_init": "random",
        "alignment": True,
        "alignment_tasks": ("text_to_codes", "codes_to_text", "titles_to_codes"),
        "normaliser": "position",
    },
    search={"constraint": "soft"},
)
"""LC-Rec's tasks but for those whose texts another language model wrote for its authors (a user's intentions and
preferences): the next item, both directions between codes and text, and titles of a history to codes."""
