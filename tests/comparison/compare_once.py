"""Run as a process of its own: ``python -m tests.comparison.compare_once MIND_FOLDER BACKBONE ENCODER OUT``."""

import sys
import warnings
from pathlib import Path

from storerec.comparison import Grid, compare, load_data, resolve
from storerec.errors import StorerecWarning
from tests.comparison import raw

SYSTEMS = ("popularity", "sasrec", "tiger", "store", "store-soft")


def main(mind: str, backbone: str, encoder: str, out: str) -> None:
    warnings.simplefilter("ignore", StorerecWarning)
    data = load_data(f"mind:{mind}")
    grid = Grid(resolve(SYSTEMS), (1,), jobs=2, threads=1)
    compare(data, raw.config("mind", backbone, encoder), grid, Path(out), raw.OPTIONS, print)


if __name__ == "__main__":
    main(*sys.argv[1:])
