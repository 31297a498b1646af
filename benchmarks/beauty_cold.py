"""New items on Amazon Beauty (2014): some are hidden from all training, added as new ones, and looked for.

    python -m benchmarks.beauty_cold FOLDER --out runs/beauty-cold --test-users 4000

FOLDER has ``items.jsonl`` and ``sequences.tsv``, as for benchmarks/beauty.py, whose settings these are; on own tables,
`storerec cold-start` does the same. An interrupted run goes on with the same command.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

from benchmarks.beauty import load
from storerec.comparison import ComparisonConfig
from storerec.comparison.cold_start import cold_start, write_page
from storerec.config import RunOptions
from storerec.errors import StorerecError
from storerec.llm.progress import Progress

HERE = Path(__file__).parent


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder to make, or to go on with")
    parser.add_argument(
        "--config", type=Path, default=HERE / "beauty-cold-cpu.json", help="settings over preset amazon"
    )
    parser.add_argument("--share", type=float, default=0.2, help="share of the items to hide")
    parser.add_argument("--users", type=int, help="only so many users, drawn by a fixed seed, and their items")
    parser.add_argument("--test-users", type=int, help="only so many users in each table; all train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    return parser.parse_args(words)


def main() -> int:
    """Run; 2 for an error of the user's."""
    given = parse(sys.argv[1:])
    started = time.monotonic()
    try:
        catalogue, histories = load(given.folder, given.users)
        config = ComparisonConfig.assembled("amazon", given.config)
        options = RunOptions(seed=given.seed, device=given.device, dtype=given.dtype, progress=sys.stdout.isatty())
        with Progress(enabled=options.progress) as bars:
            found = cold_start(
                catalogue,
                histories,
                config.store,
                given.share,
                given.out,
                options,
                bars,
                sasrec=config.sasrec,
                test_users=given.test_users,
            )
    except StorerecError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    command = shlex.join(["python", "-m", "benchmarks.beauty_cold", *sys.argv[1:]])
    whole = "the whole file" if given.users is None else f"{given.users} users of the file and their items"
    page = write_page(found, given.out, f"New items: Amazon Beauty 2014, {whole}", command)
    print(page.read_text(encoding="utf-8"))
    print(f"{(time.monotonic() - started) / 60:.1f} minutes in this call; page: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
