"""Reading a context that all rows of a batch share once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from storerec.recommender.model import Recommender


def drops_inside(base: Any) -> bool:
    """Whether layers drop anything in training: then rows that share a context must not share what is dropped."""
    rates = [rate for name, rate in base.config.to_dict().items() if "drop" in name]
    modules = [module.p for module in base.modules() if isinstance(module, torch.nn.Dropout)]
    return any(isinstance(rate, float | int) and rate > 0 for rate in rates + modules)


def is_shared(context: torch.Tensor, lengths: torch.Tensor) -> bool:
    """Whether all rows of ``context`` (rows, longest), at least two, are one without padding."""
    return len(context) > 1 and bool((context == context[0]).all() & (lengths == context.shape[1]).all())


def behind_shared(model: Recommender, context: torch.Tensor, read: torch.Tensor) -> torch.Tensor:
    """Outputs at the end of a context (longest,) and at each of ``read`` (rows, tokens, width) behind it.

    Under a causal mask nothing changes what stands before it, so the context passes the layers once for all rows.

    Returns
    -------
    (rows, tokens + 1, width)
    """
    from transformers import DynamicCache  # here: a bundle recommends without transformers, which takes seconds

    base: Any = model.base
    rows, longest = len(read), len(context)
    places = torch.arange(longest + read.shape[1], device=read.device)[None]
    cache = DynamicCache(config=base.config)
    words = model.backbone.embed(context)[None]
    first = model.run(words, places[:, :longest], past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(rows)
    rest = model.run(read, places[:, longest:].expand(rows, -1), past_key_values=cache, use_cache=True)
    return torch.cat([first[:, -1:].expand(rows, -1, -1), rest], dim=1)
