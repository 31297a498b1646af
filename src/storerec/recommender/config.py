"""Configuration of the recommender and of its search."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from storerec.config import Config
from storerec.llm.adapters import LoraConfig
from storerec.llm.prompts import Prompts
from storerec.llm.training_config import TrainingConfig
from storerec.recommender.history import HistoryForm

Normaliser = Literal["children", "position", "vocabulary"]

AlignmentTask = Literal["text_to_codes", "codes_to_text", "titles_to_codes"]


class SearchConfig(Config):
    """Conditional beam search."""

    beam: int = Field(default=20, ge=1)
    """Beams kept per user; a list of k items searches at least k beams."""

    validation_beam: int = Field(default=20, ge=1)
    """Beams per user of the searches that validate between epochs, where these are fewer than ``beam``: they compare a
    model with itself, and a wide search of all users takes as long as an epoch on two cores."""

    constraint: Literal["tree", "soft"] = "tree"
    """tree: only codes of existing items, at every step. soft: any code of the position; lists lose the tuples that
    name no item (the paper's ablation "without conditional beam search")."""

    item_weight: float = Field(default=0.5, ge=0, le=1)
    """Share of the item rows' log-probability in an item's score, the rest being its codes'; matters only for a
    recommender with ``item_rows``."""

    new_share: float = Field(default=0.1, ge=0, le=1)
    """Share of a list's places kept for items that were added after training: of ten the last one, of twenty two, of
    nine none. No event tells how popular such an item will be, so models rank it below what they know; a list without
    a reserve may never show it, and what nobody sees nobody chooses. 0 keeps none. Measuring a trained system is not
    touched, as it has no such items."""

    normaliser: Normaliser | None = None
    """Over what a step's probabilities are normalised; none takes what the recommender was trained with."""

    batch_users: int = Field(default=64, ge=1)
    """Users searched at a time."""

    @property
    def in_validation(self) -> SearchConfig:
        """The same search as it validates in training."""
        return self.model_copy(update={"beam": min(self.beam, self.validation_beam)})


class RecommenderConfig(Config):
    """The recommender: what it reads, which weights it trains, how long."""

    max_history: int = Field(default=20, ge=1)
    """Most recent items of a user that are read (paper: 20)."""

    layers: int | None = Field(default=None, ge=1)
    """Run on the first this many layers of the backbone; none runs on all. Code tokens bring their own input and
    output rows, so no text head is needed."""

    tuning: Literal["lora", "full"] = "lora"
    """lora: an adapter on top of the tokenizer's, both on one backbone in memory (paper). full: the layers above are
    copied, with the tokenizer's update merged in, and trained whole."""

    lora: LoraConfig = LoraConfig(rank=128)
    """The recommender's adapter (paper: rank 128)."""

    code_init: Literal["cluster_mean", "random"] = "cluster_mean"
    """Where a code's embedding starts: at its cluster's mean dense token, at the word embeddings' RMS, or random."""

    centre_codes: bool = False
    """Subtract the position's mean from the cluster means before scaling them."""

    output_scale: float = Field(default=0.1, ge=0)
    """Output rows start as the input rows times this; small keeps the first predictions near uniform."""

    tie_codes: bool = False
    """Use one row per code for input and output, times a learned scale that starts at ``output_scale``; a code then
    learns from being read and from being predicted."""

    code_rank: int | None = Field(default=None, ge=1)
    """Rank of what training may add to the code rows, input and output; none trains them whole. A rank keeps codes
    near what their clusters say of texts, and has few numbers to learn histories by heart in."""

    history: HistoryForm = "codes"
    """codes: a history item is read as its codes, one token each (paper). items: as one token, the sum of its codes'
    vectors (ours): histories are as many times shorter as an item has codes, and what the first layer must otherwise
    gather from several tokens stands in one. The next item's codes are generated one by one in both."""

    code_share: float = Field(default=1.0, gt=0, le=1)
    """Share of a window's items, drawn anew each step, whose codes after the first are trained (with histories of
    items): codes after the first cost most of the tokens and are much easier to tell."""

    item_rows: bool = False
    """Give each item, beside its codes, two vectors of its own that start at zero (ours): one is added to the input of
    its last code, so that a history tells items with similar codes apart at once; the other to the sum of its codes'
    output rows, by which the end of a history scores every item directly. The search then ranks by both. An item
    without events keeps zeros and lives by its codes, as all items do without this."""

    item_rank: int | None = Field(default=None, ge=1)
    """Numbers an item's own vectors are made of (ours): none gives it two whole ones; a rank gives it one vector of
    that many numbers, which two maps shared by all items turn into what it is read by and what it is predicted by. A
    small catalogue's events do not fill hundreds of numbers per item."""

    item_start: Literal["zeros", "cooccurrence"] = "zeros"
    """Where an item's own input vector starts. cooccurrence: at what stands near it in the training histories
    (:func:`storerec.recommender.cooccurrence.cooccurrence_vectors`), at the word embeddings' RMS; training then has
    less to find out and fewer epochs to learn histories by heart in."""

    item_loss: float = Field(default=1.0, ge=0)
    """Weight of the items' cross-entropy by their rows beside the sum of their codes' (with ``item_rows``)."""

    item_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the items, drawn anew each step, that are predicted by their codes alone in training (with
    ``item_rows``), as an item is that training never saw, and, drawn by itself, of the items of histories that are read
    so: what codes can say is then not left to the items' own vectors."""

    normaliser: Normaliser = "children"
    """Over what probabilities are normalised in training: the codes that continue an existing item, the position's
    codes, or text vocabulary and all codes together."""

    loss_positions: Literal["all", "last"] = "all"
    """all: every item of a training window is a target. last: only the last one of each user (paper)."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout in training on the codes' input vectors and on the outputs that predict codes, beside the backbone's
    own. Few histories are soon learned by heart: on MovieLens-100K validation falls from the third epoch without it."""

    residual_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout in training on what attention and feed-forward map of each layer add, beside the backbone's own."""

    jitter: bool = True
    """Cut histories into windows at other places each epoch."""

    alignment: bool = True
    """Train text-token alignment jointly, before recommendation alone."""

    alignment_tasks: tuple[AlignmentTask, ...] = Field(("text_to_codes",), min_length=1)
    """What alignment is: an item's text to its codes (STORE), its codes to its text, the titles of a history to the
    next item's codes (both LC-Rec)."""

    alignment_tokens: int = Field(default=64, ge=4)
    """Text tokens of an item in the alignment tasks at most."""

    history_tokens: int = Field(default=192, ge=4)
    """Text tokens of a history's titles at most; the oldest are left out."""

    prompts: Prompts = Prompts()
    """Wording of the instructions."""

    batch_size: int = Field(default=64, ge=1)
    """Windows (or items, for alignment) per optimizer step (paper: 64)."""

    joint: TrainingConfig = TrainingConfig(learning_rate=5e-4, epochs=20, patience=5)
    """First phase: both tasks (skipped without alignment)."""

    alone: TrainingConfig = TrainingConfig(learning_rate=5e-4, epochs=20, patience=5)
    """Second phase: recommendation alone."""

    validation_users: int | None = None
    """Validate on a random sample of this many validation users; none takes all."""

    validation_excludes_history: bool = False
    """Whether validation's lists leave out the user's own history. Take what the evaluation does."""

    validation_metric: Literal["ndcg@10", "recall@10"] = "ndcg@10"
    """Item-level metric that decides on the best weights and on early stopping."""
