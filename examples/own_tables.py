"""Your own tables: from two csv files to recommendations, in one program.

    python examples/own_tables.py --items items.csv --events events.csv --history i7,i12,i3

Without paths it writes a small shop of its own into a temporary folder and works on that. The settings are
tiny, so that it ends within minutes on a laptop; for lists worth having take ``StoreConfig.preset("cpu")``.
"""

import argparse
import random
import tempfile
from pathlib import Path

from storerec import STORE, Histories, StoreConfig, read_events, read_items

KINDS = {
    "tea": ("green", "black", "white", "herbal", "smoked", "iced"),
    "coffee": ("filter", "dark roast", "decaffeinated", "single origin", "instant", "cold brew"),
    "chocolate": ("milk", "bitter", "hazelnut", "salted", "ruby", "vegan"),
}


def write_small_shop(folder: Path) -> tuple[Path, Path]:
    """18 items of three kinds and 40 users, each of whom mostly buys things of one kind."""
    chance = random.Random(0)
    kinds = [(kind, sort) for kind, sorts in KINDS.items() for sort in sorts]
    items = [f"p{n},{sort} {kind},{kind}" for n, (kind, sort) in enumerate(kinds)]
    events = []
    for user in range(40):
        liked = [n for n, (kind, _) in enumerate(kinds) if kind == list(KINDS)[user % 3]]
        for time in range(6):
            item = chance.choice(liked) if chance.random() < 0.8 else chance.randrange(len(kinds))
            events.append(f"u{user},p{item},{time}")
    for name, header, rows in (
        ("items.csv", "item_id,title,kind", items),
        ("events.csv", "user_id,item_id,timestamp", events),
    ):
        (folder / name).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder / "items.csv", folder / "events.csv"


def settings(backbone: str | None) -> StoreConfig:
    """Little of everything: few codes, few steps."""
    values = {
        "tokenizer": {
            "dense_tokens": 3,
            "batch_items": 16,
            "training": {"learning_rate": 1e-3, "max_steps": 5},
        },
        "clusterer": {"clusters": 6, "dims": 8},
        "recommender": {
            "layers": 1,
            "joint": {"max_steps": 5, "checkpoint_steps": 5},
            "alone": {"max_steps": 30, "checkpoint_steps": 10},
        },
    }
    return StoreConfig.parse(values | ({"backbone": {"name": backbone}} if backbone else {}))


def last_bought(histories: Histories, user: int, ids: list[str]) -> list[str]:
    """Ids of one user's last five items, oldest first."""
    return [ids[row] for row in histories.sequence(user)[-5:]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Recommend items of two csv files.")
    parser.add_argument("--items", type=Path, help="item_id and text columns")
    parser.add_argument("--events", type=Path, help="user_id, item_id, timestamp")
    parser.add_argument("--backbone", help="a folder, a .gguf file or a hub id; SmolLM2-135M if not given")
    parser.add_argument("--history", help="item ids, oldest first, divided by commas; the first user's if not given")
    parser.add_argument("--save", type=Path, help="where to keep the bundle")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        own = args.items and args.events
        items_file, events_file = (args.items, args.events) if own else write_small_shop(Path(temporary))
        items = read_items(items_file)
        histories = read_events(events_file, items)
        store = STORE.fit(items, histories, settings(args.backbone))

        history = args.history.split(",") if args.history else last_bought(histories, 0, items.ids.to_list())
        print("after", ", ".join(history))
        for found in store.recommend(history, k=5):
            print(f"  {found.item_id:6} {found.score:8.3f}  {found.title}")
        if args.save:
            store.save(args.save)


if __name__ == "__main__":
    main()
