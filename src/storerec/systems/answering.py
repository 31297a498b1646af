"""A language model that answers yes or no: the tokens that say so, and many questions behind one read history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import nn
from transformers import DynamicCache

from storerec.errors import BackboneError
from storerec.llm.adapters import LoraConfig, activate, adapter_parameters, add_adapter
from storerec.llm.backbone import Backbone
from storerec.llm.precision import arithmetic
from storerec.llm.shares import whole_mean
from storerec.llm.trainable import TrainableModule

ADAPTER = "answers"

_YES = (" yes", " Yes", "yes", "Yes", " YES", "YES")
_NO = (" no", " No", "no", "No", " NO", "NO")


@dataclass(frozen=True)
class AnswerTokens:
    """Token ids that say yes and no.

    All ways to write each word (with and without a leading blank, in lower, title and upper case) that are one token
    count; their probabilities add up. A vocabulary that has neither word as one token gives the first tokens of the two
    words instead, as long as they differ.
    """

    yes: tuple[int, ...]
    no: tuple[int, ...]

    @classmethod
    def find(cls, backbone: Backbone) -> Self:
        """Look the words up; BackboneError when the vocabulary cannot tell them apart."""

        def ids(word: str) -> list[int]:
            return list(backbone.tokenizer(word, add_special_tokens=False)["input_ids"])

        yes, no = ({ids(w)[0] for w in words if len(ids(w)) == 1} for words in (_YES, _NO))
        if yes and no and not yes & no:
            return cls(tuple(sorted(yes)), tuple(sorted(no)))
        for one, other in ((" yes", " no"), ("yes", "no")):
            first, second = ids(one)[:1], ids(other)[:1]
            if first and second and first != second:
                return cls(tuple(first), tuple(second))
        raise BackboneError(f"{backbone.config.name}: its vocabulary cannot tell 'yes' from 'no'; take another model")


@dataclass(frozen=True)
class ReadPrefix:
    """Prefixes after one pass.

    Attributes
    ----------
    cache: keys and values of the prefixes, right-padded.
    lengths: (groups,) tokens of each prefix.
    longest: padded length.
    """

    cache: DynamicCache
    lengths: torch.Tensor
    longest: int


class AnswerModel(TrainableModule):
    """The log-odds of yes against no after a prompt.

    Parameters
    ----------
    backbone: the language model; nothing of it changes.
    lora: an adapter to train; none leaves the model as it is (zero-shot).
    seed: of the adapter's first weights.
    """

    def __init__(self, backbone: Backbone, lora: LoraConfig | None = None, *, seed: int = 0) -> None:
        super().__init__()
        self.backbone, self.tuned = backbone, lora is not None
        self.base: Any = backbone.base
        if lora is not None:
            add_adapter(self.base, ADAPTER, lora, seed=seed)
        self.answers = AnswerTokens.find(backbone)
        self.compute_dtype = backbone.word_embeddings.weight.dtype
        self.eval()  # modules are made in training mode, and the backbone's dropout must not act

    def trained(self) -> dict[str, nn.Parameter]:
        """The adapter."""
        layers = adapter_parameters(self.base, ADAPTER) if self.tuned else {}
        return {f"base.{name}": parameter for name, parameter in layers.items()}

    def use_adapter(self, *, train: bool = False) -> None:
        """Let this model's adapter act alone, or none."""
        activate(self.base, [ADAPTER] if self.tuned else [], train=[ADAPTER] if train and self.tuned else [])

    def train_only_own(self) -> None:
        """Let gradients reach the adapter only."""
        super().train_only_own()
        self.use_adapter(train=True)

    def read(self, prefix: torch.Tensor, lengths: torch.Tensor) -> ReadPrefix:
        """Read right-padded prefixes (groups, longest) of ``lengths`` (groups,)."""
        cache = DynamicCache(config=cast("Any", self.base.config))
        places = torch.arange(prefix.shape[1], device=prefix.device).expand(len(prefix), -1)
        self._run(prefix, places, cache)
        return ReadPrefix(cache, lengths, prefix.shape[1])

    def margins(
        self,
        prefix: ReadPrefix,
        suffix: torch.Tensor,
        segment: torch.Tensor,
        place: torch.Tensor,
        row: torch.Tensor,
        column: torch.Tensor,
    ) -> torch.Tensor:
        """Log-odds of yes for candidates packed behind their prefixes: (candidates,).

        The arguments are those of :meth:`PromptTokens.pack`. The cache is as long afterwards as before.
        """
        mask = _mask(prefix, segment, self.backbone.word_embeddings.weight.dtype)  # (groups, 1, suffix, all)
        places = prefix.lengths[:, None] + place  # (groups, suffix): as if each candidate stood alone
        hidden = self._run(suffix, places, prefix.cache, attention_mask=mask)  # (groups, suffix, width)
        prefix.cache.crop(-suffix.shape[1])  # negative: tokens to take away, in all versions of transformers
        return self._odds(hidden[row, column])

    def forward(
        self,
        prefix: torch.Tensor,
        lengths: torch.Tensor,
        suffix: torch.Tensor,
        segment: torch.Tensor,
        place: torch.Tensor,
        row: torch.Tensor,
        column: torch.Tensor,
        labels: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Mean binary cross-entropy over the batch's candidates; ``labels`` (candidates,) bool."""
        margins = self.margins(self.read(prefix, lengths), suffix, segment, place, row, column)
        loss = F.binary_cross_entropy_with_logits(margins, labels.to(margins.dtype))
        return {"loss": whole_mean(loss, len(labels))}

    def _run(self, ids: torch.Tensor, places: torch.Tensor, cache: DynamicCache, **mask: torch.Tensor) -> torch.Tensor:
        with arithmetic(self.compute_dtype, ids.device):
            return self.base(
                inputs_embeds=self.backbone.embed(ids),
                position_ids=places,
                past_key_values=cache,
                use_cache=True,
                **mask,
            ).last_hidden_state

    def _odds(self, hidden: torch.Tensor) -> torch.Tensor:
        """(candidates, width) -> (candidates,)."""
        head = self.backbone.model.get_output_embeddings()
        words = [*self.answers.yes, *self.answers.no]
        bias = None if head.bias is None else head.bias[words]
        with arithmetic(self.compute_dtype, hidden.device):
            logits = F.linear(hidden, head.weight[words], bias)  # (candidates, words)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        yes, no = logits.split([len(self.answers.yes), len(self.answers.no)], dim=-1)
        return yes.logsumexp(-1) - no.logsumexp(-1)


def _mask(prefix: ReadPrefix, segment: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What each packed token sees: its prefix, and its own candidate up to itself; (groups, 1, suffix, all)."""
    longest = segment.shape[1]
    steps = torch.arange(prefix.longest, device=segment.device)
    before = (steps < prefix.lengths[:, None])[:, None].expand(-1, longest, -1)  # (groups, suffix, prefix)
    same = segment[:, :, None] == segment[:, None, :]
    own = same & torch.ones_like(same[0]).tril()  # (groups, suffix, suffix); padding sees itself, so no row is empty
    seen = torch.cat([before, own], dim=-1)
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)
    return mask[:, None]
