"""Items, users' histories, their readers and splits."""

from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.data.readers import movielens_100k, read_events_table, read_items_table, read_movielens
from storerec.data.splits import Cases, Split, SplitConfig, leave_one_out, split, split_users

__all__ = [
    "Cases",
    "Catalogue",
    "Histories",
    "Split",
    "SplitConfig",
    "leave_one_out",
    "movielens_100k",
    "read_events_table",
    "read_items_table",
    "read_movielens",
    "split",
    "split_users",
]
