"""A small shop in two csv files, tiny settings, and the program run in this process."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from storerec.cli import app

GENRES = ("Comedy", "Drama", "Horror")
SETTINGS = {
    "tokenizer": {
        "dense_tokens": 2,
        "max_content_tokens": 24,
        "max_task_tokens": 12,
        "batch_items": 8,
        "lora": {"rank": 2},
        "training": {"max_steps": 2},
    },
    "clusterer": {"clusters": 3, "dims": 4, "n_init": 1},
    "recommender": {
        "max_history": 6,
        "layers": 1,
        "batch_size": 8,
        "lora": {"rank": 2},
        "joint": {"max_steps": 2},
        "alone": {"max_steps": 2},
    },
    "evaluation": {"bootstrap_samples": 20},
}


def items_csv(n=12):
    """One line an item: film i7 is of genre 7 % 3."""
    rows = [f"i{i},Film number {i},{GENRES[i % 3]}" for i in range(n)]
    return "item_id,title,genre\n" + "\n".join(rows) + "\n"


def events_csv(n_items=12):
    """Thirty lines: six users with five events each, in time order."""
    rows = [f"u{u},i{(3 * e + u) % n_items},{100 * e + u}" for e in range(5) for u in range(6)]
    return "user_id,item_id,timestamp\n" + "\n".join(rows) + "\n"


class Shop:
    """A folder with items.csv, events.csv and config.json, and the program to run on them."""

    def __init__(self, folder: Path, backbone: Path):
        self.folder, self.run = folder, folder / "run"
        self.items = self.write("items.csv", items_csv())
        self.events = self.write("events.csv", events_csv())
        self.config = self.write("config.json", json.dumps(SETTINGS | {"backbone": {"name": str(backbone)}}))

    def write(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def fit(self, *more, items=None, events=None, config=None, out=None):
        files = ["--items", items or self.items, "--events", events or self.events]
        return call("fit", *files, "--out", out or self.run, "--config", config or self.config, *more)


def call(*args):
    """Run ``storerec`` in this process; what is no orderly end is raised."""
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def is_error(result, *words):
    """Whether the run ended as user errors do: code 2, one line on standard error, with these words."""
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    assert result.exit_code == 2, result.output
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert not [word for word in words if word not in lines[0]], lines[0]
    return True


def is_fine(result):
    assert result.exit_code == 0, result.output
    return True


@pytest.fixture
def shop(tmp_path, tiny_backbone):
    return Shop(tmp_path, tiny_backbone("llama"))


@pytest.fixture(scope="session")
def fitted(tmp_path_factory, tiny_backbone):
    """A shop whose run is fitted; tests must not change its run folder."""
    shop = Shop(tmp_path_factory.mktemp("fitted"), tiny_backbone("llama"))
    assert is_fine(shop.fit())
    return shop
