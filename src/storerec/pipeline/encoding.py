"""The run's catalogue as dense tokens: chunks of items, by whichever process is free."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from storerec.llm import processes
from storerec.llm.progress import Progress
from storerec.pipeline.engine import Engine
from storerec.pipeline.folder import RunFolder
from storerec.tokenizer import DenseFiles, encode_chunk, encoding_identity, encoding_layers


@dataclass(frozen=True)
class EncodeChunks:
    """Encodes chunks of a run's items, by number, into their files."""

    run: RunFolder
    identity: str
    shape: tuple[int, int, int]

    @property
    def files(self) -> DenseFiles:
        """Where the vectors go."""
        folder, chunk = self.run.path / "stages", self.run.config.tokenizer.encode_chunk
        return DenseFiles.begin(folder, self.identity, self.shape, chunk)

    def open(self) -> Callable[[int], int]:
        """Load the tokenizer; the work gives the number of items it encoded."""
        files, model = self.files, self.run.tokenizer
        layers = encoding_layers(model, self.run.options)

        def encode(number: int) -> int:
            items = self.run.items(files.part(number))
            files.write(number, encode_chunk(model, items, layers))
            return len(items)

        return encode


def encode(run: RunFolder, progress: Progress, engine: Engine) -> None:
    """Encode every item of the run; chunks that stand, of the same weights and arithmetic, stay."""
    weights = hashlib.sha256(run.file("tokenizer").read_bytes()).hexdigest()
    device = engine.device(run.options)
    identity = encoding_identity(run.config.tokenizer, run.options, device, weights, run.data)
    task = EncodeChunks(run, identity, (len(run.catalogue), *run.arrays("tokenizer")["dense_tokens"].shape))
    missing = processes.by_first(task.files.missing)
    parts = [task.files.part(number) for number in missing]
    left = sum(part.stop - part.start for part in parts)
    bar = progress.start("encoding items", len(run.catalogue), done=len(run.catalogue) - left, unit="item")
    for items in engine.over(task, missing):
        progress.advance(bar, items)
    progress.finish(bar)
    if processes.is_first():
        task.files.finish()
    processes.barrier()
