"""The paper's preprocessing of MIND and Yelp (section 4.1 of arXiv 2409.07276)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from storerec.config import Config
from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.data.readers.faults import BadRows
from storerec.data.readers.mind import read_mind
from storerec.data.readers.yelp import read_yelp
from storerec.data.splits import SplitConfig
from storerec.errors import DataError


class PreprocessConfig(Config):
    """What is kept of a raw dataset."""

    content_attributes: tuple[str, ...] = Field(min_length=1)
    """Attributes the dense tokenizer reads and reconstructs."""

    generation_attributes: tuple[str, ...] = ()
    """Attributes it must generate without having read them."""

    max_items: int = Field(default=20, ge=2)
    """A user's sequence is the last so many items."""

    min_items: int = Field(default=2, ge=1)
    """Users with fewer items are left out before sampling (ours: one item for the input and one for the
    target).
    """

    users: int = Field(default=45_000, ge=1)
    """Users sampled by seed; all, where there are fewer."""

    test_users: int = Field(default=5_000, ge=1)
    """How many of them serve as test users in :attr:`split`."""

    @property
    def split(self) -> SplitConfig:
        """The paper's split of the result: test users, 10% of the others for validation, the rest for
        training.
        """
        return SplitConfig(protocol="users", test_users=self.test_users, max_items=self.max_items)


MIND_PAPER = PreprocessConfig(
    content_attributes=("title", "abstract"), generation_attributes=("category", "subcategory")
)
"""The paper's settings for MIND."""

YELP_PAPER = PreprocessConfig(content_attributes=("name", "city", "address"), generation_attributes=("state",))
"""The paper's settings for Yelp."""


@dataclass(frozen=True)
class DatasetStats:
    """The figures of the paper's Table 1."""

    items: int
    users: int
    average_length: float
    """Mean number of items in a user's sequence."""
    average_appearance: float
    """Mean number of events of an item."""

    @classmethod
    def of(cls, catalogue: Catalogue, histories: Histories) -> DatasetStats:
        """Count a dataset."""
        events = int(histories.items.size)
        users, items = len(histories), len(catalogue)
        return cls(items, users, events / max(1, users), events / max(1, items))

    def to_json(self) -> dict[str, float]:
        """Return the figures by name."""
        return asdict(self)


MIND_TABLE1 = DatasetStats(25_634, 45_000, 11.78, 20.69)
"""What the paper's Table 1 says of MIND."""

YELP_TABLE1 = DatasetStats(73_380, 45_000, 6.47, 3.97)
"""What the paper's Table 1 says of Yelp."""


@dataclass(frozen=True, eq=False)
class Preprocessed:
    """A dataset as the paper uses it."""

    catalogue: Catalogue
    histories: Histories
    stats: DatasetStats
    config: PreprocessConfig


def preprocess_mind(
    folder: Path | str, config: PreprocessConfig = MIND_PAPER, *, seed: int, bad_rows: BadRows = "error"
) -> Preprocessed:
    """Read a raw MIND folder and reduce it as the paper does; see :func:`preprocess_dataset` and
    :func:`read_mind`.

    The paper does not name the MIND release nor the part; give the training folder, whose ``behaviors.tsv``
    has the histories.
    """
    catalogue, histories = read_mind(folder, bad_rows=bad_rows)
    return preprocess_dataset(catalogue, histories, config, seed=seed)


def preprocess_yelp(
    folder: Path | str, config: PreprocessConfig = YELP_PAPER, *, seed: int, bad_rows: BadRows = "error"
) -> Preprocessed:
    """Read the raw Yelp files and reduce them as the paper does; see :func:`preprocess_dataset` and
    :func:`read_yelp`.

    A user's sequence is all reviews by date: the paper names no limit on stars for the recommendation task.
    """
    catalogue, histories = read_yelp(folder, bad_rows=bad_rows)
    return preprocess_dataset(catalogue, histories, config, seed=seed)


def preprocess_dataset(
    catalogue: Catalogue, histories: Histories, config: PreprocessConfig, *, seed: int
) -> Preprocessed:
    """Cut sequences, sample users and keep their items.

    In this order, the first where the paper speaks, the others where it is silent and the simplest is chosen:

    1. Each user's last ``max_items`` items (paper: 20). Items a user repeats stay repeated.
    2. Users with ``min_items`` or more (ours); ``users`` of them at random by seed (paper: 45,000; how they
       were drawn, it does not say). The draw depends on user ids and seed, not on the files' order; the users
       keep their order.
    3. Items: those that occur in these sequences, in catalogue order (ours; the paper's Table 1 fits: on MIND
       45,000 users of 11.78 items are 25,634 items of 20.69 appearances, far fewer than the release's news).
       No item is left out for being rare.

    Raises
    ------
    DataError
        An attribute is missing, or no user has ``min_items`` items.
    """
    attributes = tuple(dict.fromkeys((*config.content_attributes, *config.generation_attributes)))
    for name in attributes:
        catalogue.attribute(name)
    recent = histories.tail(config.max_items)
    eligible = np.flatnonzero(recent.lengths >= config.min_items)
    if eligible.size == 0:
        raise DataError(f"no user has {config.min_items} or more items")
    if eligible.size > config.users:
        by_id = eligible[recent.user_ids[eligible].arg_sort().to_numpy()]
        eligible = np.sort(np.random.default_rng(seed).permutation(by_id)[: config.users])
    sampled = recent.select(eligible)
    kept = np.flatnonzero(sampled.item_counts(len(catalogue)))
    row = np.full(len(catalogue), -1, np.int32)
    row[kept] = np.arange(kept.size, dtype=np.int32)
    frame = catalogue.select(kept).frame.select("item_id", *attributes)
    title = catalogue.title_attribute if catalogue.title_attribute in attributes else None
    small = Catalogue.from_frame(frame, title=title)
    result = Histories(sampled.user_ids, sampled.offsets, row[sampled.items])
    return Preprocessed(small, result, DatasetStats.of(small, result), config)
