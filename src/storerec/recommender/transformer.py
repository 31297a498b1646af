"""The small Transformer of TIGER over item codes: T5's encoder and decoder, trained from scratch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from storerec.codes import CodeTree
from storerec.llm.precision import arithmetic
from storerec.llm.shares import whole_mean
from storerec.llm.trainable import TrainableModule
from storerec.recommender.normalisers import code_loss
from storerec.recommender.transformer_config import TransformerConfig
from storerec.recommender.tree import TorchTree

if TYPE_CHECKING:
    from transformers.models.t5.modeling_t5 import T5Stack


class TransformerRecommender(TrainableModule):
    """Reads a history's codes in the encoder and generates the next item's codes in the decoder.

    Tokens are codes; each position has its own. A learned start vector stands before every history, where TIGER has
    the user's token. That token is left out: under a split by users the test users' tokens would be untrained. An
    empty history is the start vector alone.

    The layers are transformers' T5 blocks. Position biases and masks are made here instead of in ``T5Stack.forward``,
    by a code's depth in its item: then several candidate items can stand beside each other in one decoder pass (a
    window's targets in training, the beams in search) and share the attention's keys of one history.

    Parameters
    ----------
    tree: the code tree; its sizes give the vocabulary.
    seed: of the initial weights.
    """

    def __init__(
        self, tree: CodeTree, config: TransformerConfig, *, device: torch.device | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        device = device or torch.device("cpu")
        self.settings, self.tree = config, TorchTree(tree, device)
        self.sizes = tuple(int(size) for size in tree.sizes)
        self.bounds = [0, *np.cumsum(self.sizes).tolist()]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder, self.decoder = _stack(config, decoder=False), _stack(config, decoder=True)
            self.codes = nn.Parameter(torch.randn(sum(self.sizes), config.width))  # all codes of all positions
            self.starts = nn.Parameter(torch.randn(2, config.width))  # of the history, and of the item
            if not config.tie_codes:
                self.own_outputs = nn.Parameter(torch.randn(sum(self.sizes), config.width))
            if config.recency:
                # as ALiBi has it (Press et al., 2022): from zero, the optimizer takes long to find what came last
                slopes = 2.0 ** -torch.arange(config.heads)
                self.recency = nn.Parameter(-slopes[:, None] * torch.arange(config.max_history + 1))
        self.to(device)
        self.compute_dtype = torch.float32

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.codes.device

    @contextmanager
    def computing_in(self, dtype: torch.dtype) -> Iterator[None]:
        """Let products run in ``dtype`` inside the block."""
        before, self.compute_dtype = self.compute_dtype, dtype
        try:
            yield
        finally:
            self.compute_dtype = before

    def trained(self) -> dict[str, nn.Parameter]:
        """Everything."""
        return dict(self.named_parameters())

    def code_vectors(self, codes: torch.Tensor) -> torch.Tensor:
        """Input vectors of item codes: (..., positions) -> (..., positions, width)."""
        offsets = torch.tensor(self.bounds[: codes.shape[-1]], dtype=torch.int64, device=codes.device)
        return F.embedding(codes + offsets, self.codes)

    def encode(self, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Read histories: (rows, longest) items, padded with anything after ``lengths`` (rows,).

        Returns
        -------
        (rows, 1 + longest x positions, width): the start, then the codes.
        """
        rows, longest = items.shape
        vectors = self.code_vectors(self.tree.item_codes[items]).flatten(1, 2)  # (rows, longest x positions, width)
        inputs = torch.cat([self.starts[0].expand(rows, 1, -1), vectors], dim=1)
        place = torch.arange(longest, device=items.device).repeat_interleave(len(self.sizes))
        place = torch.cat([place.new_full((1,), -1), place])  # (tokens,): the item a token belongs to
        seen = place < lengths[:, None]  # (rows, tokens)
        seen = seen[:, None].expand(-1, len(place), -1)
        if self.settings.encoder == "causal":
            seen = seen & (place <= place[:, None])
        with arithmetic(self.compute_dtype, inputs.device):
            bias = _first_attention(self.encoder).compute_bias(len(place), len(place))  # (1, heads, tokens, tokens)
            return _run(self.encoder, inputs, _masked(bias, seen[:, None]))

    def history_bias(self, visible: torch.Tensor, longest: int) -> torch.Tensor:
        """Bias and mask of the decoder's attention to a history of ``longest`` items, padding included.

        Parameters
        ----------
        visible: (rows, targets) how many of its items each target may see.

        Returns
        -------
        (rows, heads, targets, 1 + longest x positions)
        """
        back = visible[..., None] - torch.arange(longest, device=visible.device)  # (rows, targets, longest)
        back = back.repeat_interleave(len(self.sizes), dim=-1)
        seen = F.pad(back > 0, (1, 0), value=True)  # the start is seen by all
        back = F.pad(back.clamp(1, self.settings.max_history), (1, 0), value=0)
        if self.settings.recency:
            bias = self.recency[:, back].transpose(0, 1)  # (rows, heads, targets, tokens)
        else:
            bias = self.codes.new_zeros(back.shape)[:, None]
        return _masked(bias, seen[:, None]).expand(-1, self.settings.heads, -1, -1)

    def depth_bias(self, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """T5's relative position bias between depths: (1, heads, queries, keys) for (queries,) and (keys,)."""
        depths = len(self.sizes)
        table = _first_attention(self.decoder).compute_bias(depths, depths)  # (1, heads, depths, depths)
        return table[:, :, queries][:, :, :, keys]

    def decode(
        self, inputs: torch.Tensor, own: torch.Tensor, history: torch.Tensor, encoded: torch.Tensor, cache: Any = None
    ) -> torch.Tensor:
        """The decoder over (rows, tokens, width) inputs, given biases to each other and to the encoded histories."""
        with arithmetic(self.compute_dtype, inputs.device):
            return _run(self.decoder, inputs, own, encoded, history, cache)

    def target_hidden(self, encoded: torch.Tensor, visible: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Outputs that predict each code of (rows, targets) ``items``, each given the ``visible`` first of its history.

        Returns
        -------
        (rows, targets, positions, width)
        """
        (rows, targets), positions = items.shape, len(self.sizes)
        before = self.code_vectors(self.tree.item_codes[items][..., :-1])  # (rows, targets, positions - 1, width)
        start = self.starts[1].expand(rows, targets, 1, -1)
        inputs = torch.cat([start, before], dim=2).flatten(1, 2)  # (rows, targets x positions, width)
        depth = torch.arange(positions, device=items.device).repeat(targets)
        group = torch.arange(targets, device=items.device).repeat_interleave(positions)
        seen = (group[:, None] == group) & (depth <= depth[:, None])  # a target's codes see none of another's
        longest = (encoded.shape[1] - 1) // positions
        history = self.history_bias(visible, longest).repeat_interleave(positions, dim=2)
        hidden = self.decode(inputs, _masked(self.depth_bias(depth, depth), seen), history, encoded)
        return hidden.unflatten(1, (targets, positions))

    def _outputs(self) -> torch.Tensor:
        return self.codes if self.settings.tie_codes else self.own_outputs

    def _linear(self, hidden: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        with arithmetic(self.compute_dtype, hidden.device):
            logits = F.linear(hidden * self.settings.width**-0.5, rows)  # T5's scale of rows of standard deviation 1
        return logits if logits.dtype == torch.float64 else logits.float()

    def logits(self, hidden: torch.Tensor, position: int) -> torch.Tensor:
        """Logits over the codes of ``position``: (..., width) -> (..., codes of the position)."""
        return self._linear(hidden, self._outputs()[self.bounds[position] : self.bounds[position + 1]])

    def vocabulary_logsumexp(self, hidden: torch.Tensor) -> torch.Tensor:
        """Log of the summed exponentials over all codes of all positions: (..., width) -> (...)."""
        return self._linear(hidden, self._outputs()).logsumexp(-1)

    def forward(self, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Mean cross-entropy per code, over the batch's told targets.

        ``batch``: ``items`` (rows, longest) histories with ``lengths`` (rows,), ``targets`` (rows, targets) items,
        ``visible`` (rows, targets) how much of the history each may see, ``told`` (rows, targets) which are no padding.
        """
        encoded = self.encode(batch["items"], batch["lengths"])
        hidden = self.target_hidden(encoded, batch["visible"], batch["targets"])
        items = batch["targets"][batch["told"]]  # (targets,)
        loss = code_loss(self, self.tree, hidden[batch["told"]], items, self.settings.normaliser)
        return {"loss": whole_mean(loss, len(items))}


def _stack(config: TransformerConfig, *, decoder: bool) -> T5Stack:
    from transformers import T5Config  # here: reading a STORE does without transformers
    from transformers.models.t5.modeling_t5 import T5Attention, T5Stack

    settings = T5Config(
        vocab_size=1,
        eos_token_id=None,
        d_model=config.width,
        d_kv=config.head_width,
        d_ff=config.feed_forward,
        num_layers=config.layers,
        num_heads=config.heads,
        dropout_rate=config.dropout,
        is_decoder=decoder,
        use_cache=False,
    )
    stack = T5Stack(settings)
    stack.set_attn_implementation("eager")  # it adds our biases as they are
    del stack.embed_tokens  # codes have rows of their own
    if config.attention_dropout is not None:
        for attention in stack.modules():
            if isinstance(attention, T5Attention):
                attention.dropout = config.attention_dropout
    return stack


def _first_attention(stack: T5Stack) -> Any:
    """The attention that holds the stack's position biases."""
    return cast("Any", stack.block[0]).layer[0].SelfAttention


def _masked(bias: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    return bias.masked_fill(~seen, torch.finfo(bias.dtype).min)


def _run(
    stack: T5Stack,
    inputs: torch.Tensor,
    own: torch.Tensor,
    encoded: torch.Tensor | None = None,
    history: torch.Tensor | None = None,
    cache: Any = None,
) -> torch.Tensor:
    """What ``T5Stack.forward`` does after it has made its biases and masks."""
    hidden = stack.dropout(inputs)
    for block in stack.block:
        hidden = block(hidden, None, own, encoded, None, history, past_key_values=cache)[0]
    return stack.dropout(stack.final_layer_norm(hidden))
