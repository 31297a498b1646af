"""The dense tokenizer: two passes of the language model, each plainly causal (docs/method.md, section 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from storerec.llm.adapters import activate, adapter_parameters, add_adapter
from storerec.llm.backbone import Backbone
from storerec.llm.inference import InferenceLayers
from storerec.llm.precision import arithmetic
from storerec.llm.shares import whole_mean
from storerec.llm.trainable import TrainableModule
from storerec.tokenizer.config import TokenizerConfig

ADAPTER = "tokenizer"


@dataclass(frozen=True)
class TaskBatch:
    """The task blocks of a batch of items, one row per sample.

    Attributes
    ----------
    item: (samples,) row of the item within the batch.
    task: (samples,) task number.
    answer: (samples, longest) right-padded answer token ids.
    lengths: (samples,) answer lengths, at least 1.
    """

    item: torch.Tensor
    task: torch.Tensor
    answer: torch.Tensor
    lengths: torch.Tensor


class DenseTokenizer(TrainableModule):
    """Compresses item text to ``v`` dense vectors and learns to by writing the text back from them.

    The paper runs the four blocks content, token, placeholder, task in one sequence under a cascaded mask. No
    attention crosses from the first two to the last two, so the sequence factors exactly into pass 1 on
    [content, token], once per item, and pass 2 on [placeholder, task], once per task. In each pass the mask is the
    plain causal one and padding stands to the right, so no mask is materialised. Position ids are those of the
    four-block sequence. ``tests/tokenizer/four_blocks.py`` holds the plain form; losses and gradients agree.

    Trained: the adapter, the dense-token and task embeddings, and the fill's gain. Frozen: everything else.
    """

    def __init__(self, backbone: Backbone, config: TokenizerConfig, tasks: int, *, seed: int = 0) -> None:
        super().__init__()
        self.backbone, self.settings = backbone, config
        self.base = backbone.base
        add_adapter(self.base, ADAPTER, config.lora, seed=seed)
        weight = backbone.word_embeddings.weight
        rms = backbone.word_rms()
        generator = torch.Generator().manual_seed(seed)

        def fresh(rows: int) -> nn.Parameter:
            # at the scale of the vectors this model is used to reading
            drawn = torch.randn(rows, backbone.width, generator=generator) * rms
            return nn.Parameter(drawn.to(weight.device, weight.dtype))

        self.dense_tokens = fresh(config.dense_tokens)
        self.task_tokens = fresh(tasks)
        self.gain = nn.Parameter(torch.ones((), device=weight.device, dtype=weight.dtype))
        self.compute_dtype = weight.dtype

    def trained(self) -> dict[str, nn.Parameter]:
        """Adapter, dense-token and task embeddings, and the gain where it acts."""
        own = {f"base.{k}": p for k, p in adapter_parameters(self.base, ADAPTER).items()}
        own |= {"dense_tokens": self.dense_tokens, "task_tokens": self.task_tokens}
        return own | ({"gain": self.gain} if self.settings.fill == "rescaled" else {})

    def train_only_own(self) -> None:
        """Activate the tokenizer's adapter alone and let gradients reach only what is trained."""
        super().train_only_own()
        activate(self.base, [ADAPTER], train=[ADAPTER])

    @torch.no_grad()
    def calibrate(self, content: torch.Tensor, lengths: torch.Tensor) -> None:
        """Start the gain where the fill has the word embeddings' RMS, measured on one batch of content."""
        if self.settings.fill == "rescaled":
            activate(self.base, [ADAPTER])
            outputs = self.dense(content, lengths)
            self.gain.fill_(self.backbone.word_rms() / float(outputs.float().square().mean().sqrt()))

    def dense(
        self, content: torch.Tensor, lengths: torch.Tensor, *, layers: InferenceLayers | None = None
    ) -> torch.Tensor:
        """Pass 1: outputs of the token block.

        Parameters
        ----------
        content: (items, longest) right-padded token ids.
        lengths: (items,) content lengths.
        layers: what runs in place of the model's own layers, without gradients.

        Returns
        -------
        (items, v, width) last-layer outputs.
        """
        v = self.settings.dense_tokens
        rows, longest = content.shape
        places = torch.arange(longest + v, device=content.device)
        after = places - lengths[:, None]  # (items, longest + v): 0..v-1 on the token block
        source = torch.where(after < 0, places, (longest + after).clamp(max=longest + v - 1))
        words = self.backbone.embed(content)  # (items, longest, width)
        both = torch.cat([words, self.dense_tokens.expand(rows, -1, -1)], dim=1)  # (items, longest + v, width)
        inputs = both.gather(1, source[..., None].expand(-1, -1, both.shape[-1]))  # tokens right after the content
        block = lengths[:, None] + torch.arange(v, device=content.device)  # (items, v)
        if layers is not None:
            return layers.run(inputs, places.expand(rows, -1), wanted=block, real=after < v)
        hidden = self._run(inputs, places.expand(rows, -1))  # (items, longest + v, width)
        return hidden.gather(1, block[..., None].expand(-1, -1, hidden.shape[-1]))  # (items, v, width)

    def task_loss(self, dense: torch.Tensor, lengths: torch.Tensor, tasks: TaskBatch) -> torch.Tensor:
        """Pass 2: mean cross-entropy of the answers' tokens, given the placeholder filled with ``dense``.

        Parameters
        ----------
        dense: (items, v, width) from :meth:`dense`.
        lengths: (items,) content lengths, which place the two last blocks in the sequence.
        """
        v, longest = self.settings.dense_tokens, tasks.answer.shape[1]
        if not len(tasks.item):  # a share of items without a filled attribute
            # through the layers all the same: where they are sharded, others wait for this process at each pass
            places = lengths[:, None] + v + torch.arange(v, device=lengths.device)  # (items, v)
            return whole_mean(0 * self._run(dense.to(self.task_tokens.dtype), places).sum(), 0)
        fill = dense * self.gain if self.settings.fill == "rescaled" else dense
        fill = fill.to(self.task_tokens.dtype)
        inputs = torch.cat(
            [
                fill[tasks.item],  # (samples, v, width)
                self.task_tokens[tasks.task][:, None],  # (samples, 1, width)
                self.backbone.embed(tasks.answer[:, :-1]),  # (samples, longest - 1, width)
            ],
            dim=1,
        )
        steps = torch.arange(inputs.shape[1], device=inputs.device)
        positions = (lengths[tasks.item] + v)[:, None] + steps  # (samples, v + longest)
        hidden = self._run(inputs, positions)[:, v:]  # (samples, longest, width): outputs that predict the answer
        told = torch.arange(longest, device=inputs.device) < tasks.lengths[:, None]  # (samples, longest)
        with arithmetic(self.compute_dtype, inputs.device):
            logits = self.backbone.text_logits(hidden[told])  # (targets, vocabulary): only where there are targets
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return whole_mean(F.cross_entropy(wide, tasks.answer[told]), len(wide))

    def forward(self, **batch: Any) -> dict[str, torch.Tensor]:
        """Loss of a batch: content once, then every task of every item."""
        tasks = TaskBatch(batch["task_item"], batch["task"], batch["answer"], batch["answer_lengths"])
        dense = self.dense(batch["content"], batch["content_lengths"])
        return {"loss": self.task_loss(dense, batch["content_lengths"], tasks)}

    def _run(self, inputs: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        with arithmetic(self.compute_dtype, inputs.device):
            # right padding under a causal mask reaches no real token, so no mask is passed
            return self.base(inputs_embeds=inputs, position_ids=positions, use_cache=False).last_hidden_state
