"""Text to dense tokens: an item's text as a few vectors (docs/method.md, section 1; paper, 3.1)."""

from storerec.tokenizer.config import TokenizerConfig
from storerec.tokenizer.dense_files import DenseFiles
from storerec.tokenizer.encoding import (
    drop_encoded,
    encode_chunk,
    encode_items,
    encoded_shape,
    encoding_identity,
    encoding_layers,
)
from storerec.tokenizer.model import ADAPTER, DenseTokenizer
from storerec.tokenizer.samples import TokenizerSamples
from storerec.tokenizer.training import train_tokenizer

__all__ = [
    "ADAPTER",
    "DenseFiles",
    "DenseTokenizer",
    "TokenizerConfig",
    "TokenizerSamples",
    "drop_encoded",
    "encode_chunk",
    "encode_items",
    "encoded_shape",
    "encoding_identity",
    "encoding_layers",
    "train_tokenizer",
]
