"""Scorers over codes: yes or no, as the paper trains them, and the recommender's own probabilities."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from storerec.codes import CodeTable
from storerec.config import RunOptions
from storerec.data.judgements import Candidates
from storerec.llm.precision import pick_dtype
from storerec.llm.progress import Progress
from storerec.recommender.config import Normaliser
from storerec.recommender.decoder import Decoder
from storerec.recommender.scoring import CodeScorer, sigmoid
from storerec.recommender.scoring_inference import opening_of, predict
from storerec.recommender.scoring_training import Pieces

_PACKED = 256
"""Candidates of one group scored behind one reading of its history."""

_CELLS = 1 << 21
"""Most logits (candidates x codes) of one step; bounds memory."""


class CodeScorerSystem:
    """Scores by the probability of yes (paper, 4.4): :class:`storerec.recommender.scoring.CodeScorer`.

    Parameters
    ----------
    model: the trained scorer.
    options: device and arithmetic.
    name: which system's codes it reads: "store", "tiger" or "lc-rec".
    """

    def __init__(
        self, model: CodeScorer, options: RunOptions, *, name: str = "store", progress: Progress | None = None
    ) -> None:
        self.name, self._model = name, model
        self._dtype, self._progress = pick_dtype(options.inference_dtype, model.backbone.device), progress
        self._opening = opening_of(model, self._dtype, fused=options.fused, int8=options.int8)

    def score(self, candidates: Candidates) -> NDArray[np.float32]:
        """Probability of yes for each candidate; see :class:`storerec.systems.scorer.Scorer`."""
        return sigmoid(predict(self._model, candidates, self._dtype, self._progress, opening=self._opening))


class LikelihoodScorer:
    """Scores by the log-probability that the recommender gives the candidate as next item (ours).

    Exactly what conditional beam search would give it, bucket share included, for any item: needs no judgements to
    train on. A history is read once for all its candidates.

    Parameters
    ----------
    decoder, table: the trained recommender, step by step, and the code table its tree was built from.
    normaliser: over what a step's probabilities are normalised; none takes what the recommender was trained with.
    item_weight: of the item's own log-probability, for recommenders with rows of items, as the search has it.
    """

    def __init__(
        self,
        decoder: Decoder,
        table: CodeTable,
        *,
        normaliser: Normaliser | None = None,
        item_weight: float = 0.5,
        name: str = "store-likelihood",
    ) -> None:
        self.name, self._table, self._item_weight = name, table, item_weight
        self._decoder = decoder
        self._normaliser = normaliser or decoder.model.settings.normaliser

    @torch.no_grad()
    def score(self, candidates: Candidates) -> NDArray[np.float32]:
        """Log-probability of each candidate; see :class:`storerec.systems.scorer.Scorer`."""
        pieces = Pieces.cut(candidates, _PACKED)
        widest = max(self._decoder.tree.sizes)
        if self._normaliser == "vocabulary":
            widest += self._decoder.model.backbone.word_embeddings.num_embeddings
        rows = max(1, _CELLS // (widest * int(pieces.counts.max(initial=1))))
        scores = np.zeros(len(candidates.items), np.float32)
        lengths = candidates.histories.lengths[pieces.groups]
        order = np.lexsort(
            (pieces.counts, lengths)
        )  # near-equal together: a padded history costs as much as a real one
        for start in range(0, len(order), rows):
            part = order[start : start + rows]
            columns = np.arange(int(pieces.counts[part].max()))
            inside = columns < pieces.counts[part, None]
            places = np.where(inside, pieces.starts[part, None] + columns, 0)
            found = self._log_probabilities(candidates, pieces.groups[part], candidates.items[places])
            scores[places[inside]] = found[inside]
        return scores

    def _log_probabilities(
        self, candidates: Candidates, groups: NDArray[np.int64], items: NDArray[np.int32]
    ) -> NDArray[np.float64]:
        """(rows, candidates) log-probabilities of ``items`` behind their groups' histories, bucket share included."""
        decoder, tree = self._decoder, self._decoder.tree
        histories = candidates.histories
        prefix, hidden = decoder.prefill(histories.select(groups))
        whole = decoder.item_log_probabilities(hidden)  # (rows, items), of recommenders with rows of items
        rows = torch.from_numpy(items.astype(np.int64)).to(tree.device)  # (rows, candidates)
        hidden = hidden[:, None].expand(-1, items.shape[1], -1)  # (rows, candidates, width)
        own = torch.eye(items.shape[1], dtype=torch.bool, device=tree.device).expand(len(rows), -1, -1)
        total = torch.zeros(rows.shape, dtype=torch.float32 if tree.device.type == "mps" else torch.float64)
        total = total.to(tree.device)
        for position in range(tree.levels):
            codes = tree.item_codes[rows][..., position]  # (rows, candidates)
            children = tree.children(position, tree.node_of(position, rows))  # (rows, candidates, codes)
            logs = decoder.log_probabilities(hidden, position, children, self._normaliser)
            total += logs.gather(-1, codes[..., None])[..., 0]
            if position + 1 < tree.levels:
                path = own.repeat(1, 1, position + 1)  # each candidate sees its own codes only
                hidden = decoder.step(prefix, codes, position, path)
        total += torch.from_numpy(self._table.shares[items]).to(total)
        if whole is not None:
            own_rows = whole.to(total.dtype).gather(-1, rows)  # (rows, candidates)
            total = (1 - self._item_weight) * total + self._item_weight * own_rows
        return total.cpu().numpy()
