"""The recommender as one writes it with transformers and peft alone; ``recommender_training`` measures against it.

Codes are words of the vocabulary, behind those of the text. Everything else is stock: peft's adapter, ``Trainer``,
``DataCollatorForSeq2Seq``, labels of -100 where nothing is a target.
"""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from storerec.codes import CodeTable
from storerec.llm.layers import linear_names
from storerec.llm.quiet import quiet_transformers
from storerec.recommender import Recommender
from storerec.recommender.tasks import RecommenderSamples

IGNORED = -100


class Words(nn.Module):
    """Embedding of text, frozen, and of codes."""

    def __init__(self, text: torch.Tensor, codes: torch.Tensor) -> None:
        super().__init__()
        self.text, self.codes = nn.Parameter(text, requires_grad=False), nn.Parameter(codes.clone())

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Word ids to vectors, (...,) -> (..., width)."""
        known = len(self.text)
        text = F.embedding(ids.clamp(max=known - 1), self.text)
        return torch.where((ids < known)[..., None], text, F.embedding((ids - known).clamp(min=0), self.codes))


class Head(Words):
    """Logits over text and codes."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Outputs to logits, (..., width) -> (..., words)."""
        return torch.cat([F.linear(hidden, self.text), F.linear(hidden, self.codes)], dim=-1)


def plain(whole: Any, model: Recommender) -> Any:
    """``whole`` with an adapter and with codes as words, trained where ``model`` is and at its weights of the codes."""
    text = whole.get_input_embeddings().weight.detach()
    lora = model.settings.lora
    names = linear_names(whole.base_model, first=whole.config.num_hidden_layers, attention_only=False)
    whole.set_input_embeddings(Words(text, model.code_inputs.detach()))
    whole.set_output_embeddings(Head(text, model.code_outputs.detach()))
    whole.config.tie_word_embeddings = False
    whole.config.vocab_size = len(text) + len(model.code_outputs)
    tuned = get_peft_model(whole, LoraConfig(r=lora.rank, lora_alpha=2 * lora.rank, target_modules=names))
    for name, parameter in tuned.named_parameters():
        parameter.requires_grad_(name.endswith(".codes") or ".lora_" in name)
    return tuned


def twins(model: Recommender, tuned: Any) -> dict[str, tuple[nn.Parameter, nn.Parameter]]:
    """Each trained parameter of ``model`` and the same one of the plain model; there are no others."""
    theirs = {name: parameter for name, parameter in tuned.named_parameters() if parameter.requires_grad}
    rows = {"code_inputs": "model.embed_tokens.codes", "own_outputs": "lm_head.codes"}
    pairs = {}
    for name, own in model.trained().items():
        there = rows.get(name, name.replace("base.", "model.", 1).replace(".recommender.", ".default."))
        pairs[name] = own, theirs.pop(f"base_model.model.{there}")
    assert not theirs, sorted(theirs)
    return pairs


def sequences(samples: RecommenderSamples, table: CodeTable, text: int) -> list[dict[str, list[int]]]:
    """Each window as word ids and labels; codes stand behind ``text`` words."""
    words = table.codes.astype(np.int64) + text + np.concatenate([[0], np.cumsum(table.sizes)[:-1]])
    made = []
    for start, end in zip(samples.starts, samples.ends, strict=True):
        codes = words[samples.items[start:end]].flatten().tolist()
        told = [IGNORED] * len(samples.instruction)
        made.append({"input_ids": samples.instruction.tolist() + codes, "labels": told + codes})
    return made


class PositionLoss:
    """Cross-entropy over the codes of each target's position, from logits over all words.

    Equal to masking the other words; taking the columns instead spares passes over all logits.
    """

    def __init__(self, positions: int, codes: int) -> None:
        self.positions, self.codes = positions, codes

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Mean over the targets of a batch."""
        told = labels[:, 1:] != IGNORED  # (rows, places - 1)
        text = outputs.logits.shape[-1] - self.positions * self.codes
        logits = outputs.logits[:, :-1, text:][told].unflatten(0, (-1, self.positions))
        logits = logits.unflatten(-1, (self.positions, self.codes)).diagonal(dim1=1, dim2=2)  # items, codes, positions
        answers = labels[:, 1:][told].unflatten(0, (-1, self.positions)) - text
        return F.cross_entropy(logits, answers - self.codes * torch.arange(self.positions))


def run(tuned: Any, rows: list[Any], collate: Any, batch: int, rate: float, loss: Any, clock: TrainerCallback) -> None:
    """Train one epoch; nothing is saved."""
    with tempfile.TemporaryDirectory() as folder, quiet_transformers():
        settings = TrainingArguments(
            output_dir=folder, num_train_epochs=1, per_device_train_batch_size=batch, learning_rate=rate, seed=0,
            save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
            remove_unused_columns=False, dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = Trainer(
            model=tuned, args=settings, train_dataset=rows, data_collator=collate, compute_loss_func=loss,
            callbacks=[clock],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
