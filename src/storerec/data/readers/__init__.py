"""Readers of items and histories: plain tables, and the public datasets in their raw form."""

from storerec.data.readers.movielens import movielens_100k, read_movielens
from storerec.data.readers.tables import read_events_table, read_items_table

__all__ = ["movielens_100k", "read_events_table", "read_items_table", "read_movielens"]
