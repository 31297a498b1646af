"""What the paper's tables 3, 4 and 5 print for MIND and Yelp, for setting beside our own figures."""

from __future__ import annotations

_METRICS = (
    *(f"recall@{k}" for k in (5, 10, 20)),
    *(f"paper_ndcg@{k}" for k in (5, 10, 20)),
)


def _rows(rows: dict[str, tuple[float, ...]]) -> dict[str, dict[str, float]]:
    return {name: dict(zip(_METRICS, figures, strict=False)) for name, figures in rows.items()}


PAPER_TABLES = {
    "mind": _rows(
        {
            "sasrec": (0.0076, 0.0086, 0.0096, 0.0181, 0.0242, 0.0308),
            "p5": (0.0068, 0.0082, 0.0089, 0.0158, 0.0204, 0.0249),
            "tiger": (0.0168, 0.0256, 0.0370, 0.0422, 0.0565, 0.0717),
            "tiger-llm": (0.0173, 0.0272, 0.0394, 0.0424, 0.0577, 0.0720),
            "lc-rec": (0.0288, 0.0428, 0.0594, 0.0654, 0.0875, 0.1111),
            "store": (0.0726, 0.0746, 0.0764, 0.1785, 0.2389, 0.3033),
            "store-no-tokenizer": (0.0664, 0.0670, 0.0676),
            "store-soft": (0.0296, 0.0422, 0.0602),
            "store-no-alignment": (0.0705, 0.0722, 0.0735),
        }
    ),
    "yelp": _rows(
        {
            "sasrec": (0.0000, 0.0002, 0.0002, 0.0002, 0.0002, 0.0003),
            "p5": (0.0000, 0.0002, 0.0002, 0.0002, 0.0002, 0.0003),
            "tiger": (0.0044, 0.0064, 0.0082, 0.0113, 0.0152, 0.0193),
            "tiger-llm": (0.0044, 0.0062, 0.0088, 0.0114, 0.0150, 0.0198),
            "lc-rec": (0.0082, 0.0108, 0.0140, 0.0192, 0.0257, 0.0327),
            "store": (0.0224, 0.0266, 0.0316, 0.0586, 0.0785, 0.0996),
        }
    ),
}
"""By dataset and system. The paper's NDCG is its own formula, here ``paper_ndcg`` (docs/method.md, section 7)."""


def _scores(rows: dict[str, tuple[float, ...]]) -> dict[str, dict[str, float]]:
    return {name: dict(zip(("auc", "mrr", "ndcg@1", "ndcg@5"), row, strict=False)) for name, row in rows.items()}


PAPER_SCORES = {
    "mind": _scores(
        {
            "score-bert-zero": (0.4963, 0.4139, 0.2655, 0.3729),
            "score-llm-zero": (0.5490, 0.4658, 0.3715, 0.4362),
            "score-openai": (0.5057,),
            "score-bert-tuned": (0.6014, 0.5055, 0.4178, 0.4890),
            "score-tiger": (0.6202, 0.5277, 0.4987, 0.5315),
            "score-lc-rec": (0.6043, 0.5052, 0.4543, 0.4988),
            "score-store": (0.6505, 0.5509, 0.5062, 0.5542),
        }
    )
}
"""Scoring (table 5) by dataset and scorer: OPT as the language model, GPT-3.5 as the endpoint."""
