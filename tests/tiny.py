"""Tiny random-weight language models of several families, saved as folders any loader can read."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

FAMILIES = ("opt", "llama", "gpt2", "qwen")
CORPUS = [
    "title: Toy Story; genres: Animation Children's Comedy; year: 1995",
    "title: GoldenEye; genres: Action Adventure Thriller; year: 1995",
    "title: Four Rooms; genres: Thriller; category: news sports finance travel",
    "A user chose these items, oldest first, and then the next one: Its codes: Next: Item: unknown item",
]


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of 300 or so tokens that can write any text."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    core.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def config(family: str, vocabulary: int):
    """OPT has other word-embedding (16) than hidden width (32), like facebook/opt-350m."""
    if family == "opt":
        return OPTConfig(
            vocab_size=vocabulary, hidden_size=32, word_embed_proj_dim=16, ffn_dim=64, num_hidden_layers=3,
            num_attention_heads=4, max_position_embeddings=512, dropout=0.0, activation_dropout=0.0,
            do_layer_norm_before=False, bos_token_id=0, eos_token_id=1, pad_token_id=1,
        )  # fmt: skip
    if family == "gpt2":
        return GPT2Config(
            vocab_size=vocabulary, n_embd=32, n_layer=3, n_head=4, n_positions=512, resid_pdrop=0.0,
            embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=1,
        )  # fmt: skip
    shared = {
        "vocab_size": vocabulary, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
        "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "tie_word_embeddings": family == "llama",
    }  # fmt: skip
    return (LlamaConfig if family == "llama" else Qwen2Config)(**shared)


def save(family: str, folder: Path) -> Path:
    """Write a tiny random model of ``family`` with its tokenizer into ``folder``."""
    words = tokenizer()
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(config(family, len(words)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # larger than the usual start, so that attention and outputs differ visibly between inputs
            if parameter.dim() > 1 and "embed" not in name:
                parameter.mul_(6)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
