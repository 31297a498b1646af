"""The recommender: the language model over code tokens that have rows of their own (docs/method.md, section 3)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from storerec.codes import CodeTree
from storerec.data.histories import Histories
from storerec.llm.adapters import activate, adapter_parameters, add_adapter, merge_into
from storerec.llm.backbone import Backbone
from storerec.llm.layers import depth, dropped_updates, first_layers
from storerec.llm.precision import arithmetic
from storerec.llm.shares import agreed
from storerec.llm.trainable import TrainableModule
from storerec.recommender.branches import branch_layout
from storerec.recommender.code_rows import CodeRows
from storerec.recommender.config import RecommenderConfig
from storerec.recommender.history import history_tokens
from storerec.recommender.item_rows import ItemRows
from storerec.recommender.losses import target_loss, text_loss
from storerec.recommender.rows import initial_rows, nearby_rows
from storerec.recommender.shared import behind_shared, drops_inside, is_shared
from storerec.recommender.tree import TorchTree
from storerec.tokenizer import ADAPTER as TOKENIZER_ADAPTER

ADAPTER = "recommender"


class Recommender(TrainableModule):
    """Reads text and item codes, predicts item codes.

    A sequence is a context of text tokens (the instruction, or the instruction with an item's text) directly followed
    by the codes of items. The output before each code predicts it, over the rows of that code's position only.

    Trained: the code rows (input and output; adapters alone would leave them as they started) and either a LoRA
    adapter or the layers themselves. Where the backbone holds the tokenizer's adapter, both stand on the weights it
    tuned; without it they start from the backbone as it is (systems that have no dense tokenizer).

    Parameters
    ----------
    tree: the code tree; its sizes give the vocabulary.
    means: per position the (codes, width) mean dense tokens that code rows start from; None draws them at random.
    """

    def __init__(
        self,
        backbone: Backbone,
        config: RecommenderConfig,
        tree: CodeTree,
        means: Sequence[np.ndarray] | None,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.backbone, self.settings, self.seed = backbone, config, seed
        self.tree = TorchTree(tree, backbone.device)
        self.sizes = tuple(tree.sizes)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)])
        self.base = self._layers(seed)
        weight = backbone.word_embeddings.weight
        rows = torch.from_numpy(initial_rows(self.sizes, means, backbone, config, seed))
        rows = rows.to(weight.device, weight.dtype)  # (codes of all positions, width)
        self.input_rows = CodeRows(rows, config.code_rank, seed=seed)
        scale = torch.tensor(config.output_scale, dtype=weight.dtype, device=weight.device)
        if config.tie_codes:
            self.output_scale = nn.Parameter(scale)
        else:
            self.output_rows = CodeRows(rows * scale, config.code_rank, seed=seed)
        if config.item_rows:
            tied = self.output_scale if config.tie_codes else None
            self.items = ItemRows(len(self.tree.item_codes), rows, config, tied, seed=seed)
        self.offsets = torch.as_tensor(self.starts[:-1], device=weight.device)  # (positions,)
        self.compute_dtype = weight.dtype

    def _layers(self, seed: int) -> nn.Module:
        base, config = self.backbone.base, self.settings
        count = min(config.layers or depth(base), depth(base))
        if config.tuning == "lora":
            add_adapter(base, ADAPTER, config.lora, layers=count, seed=seed)
            return first_layers(base, count)
        shared = self.backbone.word_embeddings
        # the word embeddings stay the backbone's own: they are frozen and large
        own = copy.deepcopy(first_layers(base, count), {id(shared): shared})
        merge_into(own, [TOKENIZER_ADAPTER])
        return own

    def trained(self) -> dict[str, nn.Parameter]:
        """Code rows, and the adapter or the copied layers."""
        tied = self.settings.tie_codes
        outputs = {"output_scale": self.output_scale} if tied else self.output_rows.trained("own_outputs")
        own: dict[str, nn.Parameter] = self.input_rows.trained("code_inputs") | outputs
        if self.settings.item_rows:
            own |= self.items.trained()
        if self.settings.tuning == "lora":
            layers = adapter_parameters(self.base, ADAPTER)
        else:
            shared = {id(p) for p in self.backbone.word_embeddings.parameters()}
            layers = {name: p for name, p in self.base.named_parameters() if id(p) not in shared}
        return own | {f"base.{name}": parameter for name, parameter in layers.items()}

    def kept(self) -> dict[str, nn.Parameter]:
        """Where code rows started, if training only adds to them."""
        outputs = {} if self.settings.tie_codes else self.output_rows.kept("own_outputs")
        return self.input_rows.kept("code_inputs") | outputs

    @property
    def code_inputs(self) -> torch.Tensor:
        """Input rows: (codes of all positions, width)."""
        return self.input_rows.value

    @property
    def code_outputs(self) -> torch.Tensor:
        """Output rows: (codes of all positions, width)."""
        return self.code_inputs * self.output_scale if self.settings.tie_codes else self.output_rows.value

    def extend(self, tree: CodeTree, codes: np.ndarray) -> None:
        """Know more items, of ``codes`` (m, positions): ``tree`` is this model's with them in it."""
        self.tree = self.tree.extended(tree, codes)
        if self.settings.item_rows:
            self.items.extend(len(codes))

    def hold_unseen(self, counts: np.ndarray) -> None:
        """:meth:`ItemRows.hold_unseen`, where items have rows; ``counts`` (items,) are their events in training."""
        if self.settings.item_rows:
            self.items.hold_unseen(counts)

    def start_items(self, histories: Histories) -> None:
        """Put the items' own input vectors where ``item_start`` says, before training on ``histories``."""
        if self.settings.item_rows and self.settings.item_start == "cooccurrence":
            dims = self.settings.item_rank
            self.items.start(nearby_rows(histories, len(self.tree.item_codes), self.backbone, self.seed, dims=dims))

    @property
    def adapters(self) -> tuple[str, ...]:
        """Adapters that act in this model, where present: the tokenizer's and its own."""
        return (TOKENIZER_ADAPTER, ADAPTER) if self.settings.tuning == "lora" else ()

    def use_adapters(self, *, train: bool = False) -> None:
        """Let the adapters act together, as this model needs."""
        if self.adapters:
            activate(self.backbone.base, self.adapters, train=[ADAPTER] if train else [])

    def train_only_own(self) -> None:
        """Let gradients reach only what is trained."""
        super().train_only_own()
        self.use_adapters(train=True)

    def history_tokens(self, items: torch.Tensor) -> torch.Tensor:
        """Input vectors of items as histories have them: (rows, items) -> (rows, tokens, width)."""
        read = F.embedding(
            self.tree.item_codes[items] + self.offsets, self.code_inputs
        )  # (rows, items, positions, width)
        own = None
        if self.settings.item_rows:
            own = self._some_kept(self.items.read(items))  # (rows, items, width)
        return history_tokens(read, own, self.settings.history)

    def _some_kept(self, own: torch.Tensor) -> torch.Tensor:
        """Items' own vectors (..., width), in training some of them zeroed whole (``item_dropout``).

        The others are not scaled up, unlike in a usual dropout: items with and without a vector of their own are both
        to be read and told as they are, not to have the same mean.
        """
        dropped = self.settings.item_dropout if self.training else 0.0
        return own if not dropped else own * own.new_empty((*own.shape[:-1], 1)).bernoulli_(1 - dropped)

    def inputs(self, context: torch.Tensor, lengths: torch.Tensor, read: torch.Tensor) -> torch.Tensor:
        """Input vectors of contexts directly followed by others.

        Parameters
        ----------
        context: (rows, longest) right-padded text token ids.
        lengths: (rows,) context lengths.
        read: (rows, tokens, width) vectors, of a history say.

        Returns
        -------
        (rows, longest + tokens, width); padding to the right.
        """
        words = self.backbone.embed(context)  # (rows, longest, width)
        both = torch.cat([words, read], dim=1)  # (rows, longest + tokens, width)
        longest, total = context.shape[1], both.shape[1]
        if bool((lengths == longest).all()):
            return both
        places = torch.arange(total, device=context.device)
        after = places - lengths[:, None]  # (rows, total): 0.. on what follows
        source = torch.where(after < 0, places, (longest + after).clamp(max=total - 1))
        return both.gather(1, source[..., None].expand(-1, -1, both.shape[-1]))  # right after the context

    def drop(self, vectors: torch.Tensor) -> torch.Tensor:
        """Dropout in training."""
        return F.dropout(vectors, self.settings.dropout, self.training)

    def code_hidden(self, context: torch.Tensor, lengths: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Outputs that predict each code of ``items`` (rows, items): (rows, items, positions, width)."""
        rows, count = items.shape
        if self.settings.history == "items":
            first, rest = self.branched(context, lengths, items, torch.arange(count, device=items.device))
            return torch.cat([first[:, :, None], rest], dim=2)
        read = self.drop(self.history_tokens(items)[:, :-1])
        if agreed(bool(read.shape[1]) and self._shares and is_shared(context, lengths)):
            return behind_shared(self, context[0], read).unflatten(1, (count, len(self.sizes)))
        inputs = self.inputs(context, lengths, read)
        places = torch.arange(inputs.shape[1], device=inputs.device).expand(rows, -1)
        hidden = self.run(inputs, places)  # (rows, longest + items x positions - 1, width)
        before = (lengths - 1)[:, None] + torch.arange(count * len(self.sizes), device=inputs.device)
        hidden = hidden.gather(1, before[..., None].expand(-1, -1, hidden.shape[-1]))
        return hidden.unflatten(1, (count, len(self.sizes)))

    @property
    def _shares(self) -> bool:
        """Whether reading a context once for all rows is exact: nothing is dropped inside the layers."""
        return not (self.training and (self.settings.residual_dropout > 0 or self._drops))

    @cached_property
    def _drops(self) -> bool:
        return drops_inside(self.base)

    def branched(
        self, context: torch.Tensor, lengths: torch.Tensor, items: torch.Tensor, owners: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """:meth:`code_hidden` for histories of one token per item, with codes after the first for some items only.

        In a row stand context, items and, for each of the window's items in ``owners`` (branches,), a branch of its
        codes but the last; a branch sees context, earlier items and itself, and its places go on where those items
        end, as in generation. Gives outputs for all first codes (rows, items, width) and for the others of owners
        (rows, branches, positions - 1, width).
        """
        count, positions, longest = items.shape[1], len(self.sizes), context.shape[1]
        codes = self.tree.item_codes[items[:, owners]][..., :-1] + self.offsets[:-1]  # (rows, branches, positions - 1)
        branch = self.drop(F.embedding(codes, self.code_inputs).flatten(1, 2))
        past = self.drop(self.history_tokens(items[:, :-1]))  # (rows, items - 1, width)
        inputs = torch.cat([self.backbone.embed(context), past, branch], dim=1)  # (rows, total, width)
        places, seen = branch_layout(longest, lengths, count, positions, owners)
        mask = torch.zeros(seen.shape, dtype=inputs.dtype, device=inputs.device)
        mask = mask.masked_fill(~seen, torch.finfo(inputs.dtype).min)
        hidden = self.run(inputs, places, attention_mask=mask[:, None])  # mask: (rows, 1, total, total)
        first = hidden.gather(1, (lengths - 1)[:, None, None].expand(-1, -1, hidden.shape[-1]))  # (rows, 1, width)
        first = torch.cat([first, hidden[:, longest : longest + count - 1]], dim=1)  # (rows, items, width)
        return first, hidden[:, longest + count - 1 :].unflatten(1, (len(owners), positions - 1))

    def run(self, inputs: torch.Tensor, positions: torch.Tensor, **cache: Any) -> torch.Tensor:
        """The layers over input vectors; right padding under a causal mask reaches no real token."""
        dropped = self.settings.residual_dropout if self.training else 0.0
        with arithmetic(self.compute_dtype, inputs.device), dropped_updates(self.base, dropped):
            cache.setdefault("use_cache", False)
            return self.base(inputs_embeds=inputs, position_ids=positions, **cache).last_hidden_state

    def logits(self, hidden: torch.Tensor, position: int) -> torch.Tensor:
        """Logits over the codes of ``position``: (..., width) -> (..., codes of the position)."""
        start, end = int(self.starts[position]), int(self.starts[position + 1])
        with arithmetic(self.compute_dtype, hidden.device):
            logits = F.linear(hidden, self.code_outputs[start:end])
        return logits if logits.dtype == torch.float64 else logits.float()

    def vocabulary_logsumexp(self, hidden: torch.Tensor) -> torch.Tensor:
        """Log of the summed exponentials over text vocabulary and all codes: (..., width) -> (...)."""
        with arithmetic(self.compute_dtype, hidden.device):
            text = self.backbone.text_logits(hidden)
            codes = F.linear(hidden, self.code_outputs)
        logits = torch.cat([text, codes.to(text.dtype)], dim=-1)
        return (logits if logits.dtype == torch.float64 else logits.float()).logsumexp(-1)

    def forward(self, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """The loss of a batch, of texts where it has ``answers``, else of codes; see storerec.recommender.losses."""
        return {"loss": text_loss(self, batch) if "answers" in batch else target_loss(self, batch)}

    @property
    def item_rows(self) -> torch.Tensor:
        """What predicts each item, the sum of its codes' output rows and its own: (items, width)."""
        codes = self.tree.item_codes + self.offsets  # (items, positions)
        return F.embedding(codes, self.code_outputs).sum(1) + self._some_kept(self.items.outputs)

    def item_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits over all items by their rows, for outputs that predict a first code: (..., width) -> (..., items)."""
        with arithmetic(self.compute_dtype, hidden.device):
            logits = F.linear(hidden, self.item_rows.to(hidden.dtype))
        return logits if logits.dtype == torch.float64 else logits.float()
