"""Conditional beam search over the code tree (docs/method.md, section 4): every result is an item of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from storerec.codes import CodeTable
from storerec.data.histories import Histories
from storerec.llm.progress import Progress
from storerec.recommender.best import best as best_of
from storerec.recommender.config import SearchConfig
from storerec.recommender.filter import Filter, Gate
from storerec.recommender.lookahead import Lookahead


class StepDecoder(Protocol):
    """What the search needs of a model: reading histories once and appending nodes."""

    tree: Any

    def prefill(self, histories: Histories) -> tuple[Any, torch.Tensor]:
        """Prefix and (users, width) outputs."""
        ...

    def step(self, prefix: Any, codes: torch.Tensor, position: int, ancestors: torch.Tensor) -> torch.Tensor:
        """(users, beams, width) outputs after one more code per beam."""
        ...

    def log_probabilities(
        self, hidden: torch.Tensor, position: int, children: torch.Tensor, normaliser: str
    ) -> torch.Tensor:
        """(..., codes) log-probabilities of a position's codes."""
        ...


@runtime_checkable
class ItemScorer(Protocol):
    """What a decoder may have beside: scores of whole items from the end of a history."""

    def item_log_probabilities(self, hidden: torch.Tensor) -> torch.Tensor | None:
        """(users, items) from the (users, width) outputs of ``prefill``; None when the model has no rows of items."""
        ...


class BeamSearch:
    """Finds the k most probable items for each history.

    Each history is read once. A step appends one node per beam to the shared keys and values, and an ancestor mask
    lets each node see its own path only, so nothing is ever reordered. Every step is conditioned on the beam's own
    codes; the target is not an input of this class.
    """

    def __init__(self, decoder: StepDecoder, table: CodeTable, config: SearchConfig, normaliser: str) -> None:
        self.decoder, self.table, self.config = decoder, table, config
        self.normaliser = config.normaliser or normaliser
        if config.constraint == "soft" and self.normaliser == "children":
            self.normaliser = "position"  # without the tree there are no children to normalise over

    @torch.no_grad()
    def __call__(
        self,
        histories: Histories,
        k: int,
        *,
        own: bool = False,
        banned: np.ndarray | None = None,
        each: Sequence[np.ndarray] | None = None,
        progress: Progress | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Search all ``histories``, ``batch_users`` at a time.

        Parameters
        ----------
        k: items per user.
        own: never return items of the user's own history (all of it, not only the part that is read).
        banned: rows never to return to anyone, or (items,) bool which.
        each: for each user, rows never to return to that one.

        Returns
        -------
        items (users, k) int32 rows of the catalogue, -1 where fewer than k are left, and scores (users, k) float32,
        the items' log-probabilities, minus infinity there.
        """
        users = len(histories)
        items = np.full((users, k), -1, np.int32)
        scores = np.full((users, k), -np.inf, np.float32)
        # near-equal lengths together: a padded history costs as much as a real one
        order = np.argsort(histories.lengths, kind="stable")
        batches = [order[start : start + self.config.batch_users] for start in range(0, users, self.config.batch_users)]
        shown = (progress or Progress(enabled=False)).track(
            batches, "searching", users, sizes=[len(batch) for batch in batches], unit="user"
        )
        for chosen in shown:
            part = histories.select(chosen)
            ones = None if each is None else [each[user] for user in chosen]
            filter_ = Filter.build(len(self.table.codes), part, own=own, banned=banned, each=ones)
            nodes, totals, whole = self._search(part, k, filter_)
            items[chosen], scores[chosen] = self._items(nodes, totals, whole, k, filter_)
        return items, scores

    def _search(
        self, histories: Histories, k: int, filter_: Filter
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Leaves (users, beams), -1 for none, their log-probabilities, best first, and those of whole items if any."""
        tree, beam = self.decoder.tree, max(self.config.beam, k)
        gate = None if filter_.empty else Gate(filter_, tree)
        prefix, hidden = self.decoder.prefill(histories)
        scorer = self.decoder if isinstance(self.decoder, ItemScorer) else None
        whole = scorer.item_log_probabilities(hidden) if scorer else None  # (users, items)
        hidden = hidden[:, None]  # (users, 1, width): one beam, the root
        users, device = len(hidden), hidden.device
        nodes = torch.zeros((users, 1), dtype=torch.int64, device=device)
        wide = torch.float32 if device.type == "mps" else torch.float64  # Apple's GPU has no float64
        totals = torch.zeros((users, 1), dtype=wide, device=device)
        ancestors = torch.zeros((users, 1, 0), dtype=torch.bool, device=device)
        ahead = None
        if whole is not None and self.config.item_weight > 0 and self.config.constraint == "tree":
            ahead = Lookahead(whole.to(wide), self.config.item_weight, filter_, tree)
        for position in range(tree.levels):
            children = tree.children(position, nodes)  # (users, beams, codes)
            logs = self.decoder.log_probabilities(hidden, position, children, self.normaliser)
            scores = totals[..., None] + logs  # (users, beams, codes)
            if self.config.constraint == "tree":
                shut = children < 0 if gate is None else gate.shut(position + 1, children)
                scores = scores.masked_fill(shut, -torch.inf)
            kept = min(beam, scores.shape[1] * scores.shape[2])
            promise = scores if ahead is None else ahead.promise(scores, position + 1, children)
            found, best = best_of(promise.flatten(1), kept)  # (users, beams)
            totals = scores.flatten(1).gather(1, best).masked_fill(found == -torch.inf, -torch.inf)
            parents, codes = best // scores.shape[2], best % scores.shape[2]
            nodes = children.flatten(1).gather(1, best).masked_fill(found == -torch.inf, -1)
            if position + 1 < tree.levels:
                path = ancestors.gather(1, parents[..., None].expand(-1, -1, ancestors.shape[-1]))
                hidden, ancestors = self._step(prefix, hidden, nodes, codes, position, path)
        return nodes.cpu().numpy(), totals.cpu().numpy(), None if whole is None else whole.cpu().numpy()

    def _step(
        self,
        prefix: Any,
        hidden: torch.Tensor,
        nodes: torch.Tensor,
        codes: torch.Tensor,
        position: int,
        path: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the beams' codes: outputs after them (users, beams, width), and the paths with what was appended.

        Where probabilities are normalised over children, a node that leads to one leaf gives it all of its own: such a
        beam is not appended, and its outputs are zeros. Most are so from the second code on when codes are many.
        """
        users, beams = nodes.shape
        beam = torch.arange(beams, device=nodes.device)
        chosen = beam.expand(users, -1)  # (users, appended)
        if self.normaliser == "children" and self.config.constraint == "tree":
            needed = self.decoder.tree.branches(position + 1, nodes)  # (users, beams)
            most = int(needed.sum(1).max())
            chosen = needed.int().argsort(dim=1, descending=True, stable=True)[:, :most]
        paths = torch.cat([path, beam[:, None] == chosen[:, None]], dim=-1)  # (users, beams, nodes appended so far)
        outputs = hidden.new_zeros(users, beams, hidden.shape[-1])
        if chosen.shape[1] == 0:
            return outputs, paths
        own = paths.gather(1, chosen[..., None].expand(-1, -1, paths.shape[-1]))
        found = self.decoder.step(prefix, codes.gather(1, chosen), position, own)  # (users, appended, width)
        return outputs.scatter(1, chosen[..., None].expand_as(found), found), paths

    def _items(
        self, leaves: np.ndarray, totals: np.ndarray, whole: np.ndarray | None, k: int, filter_: Filter
    ) -> tuple[np.ndarray, np.ndarray]:
        """Items of the leaves' buckets, scored by log-probability plus log share: (users, k) each.

        With ``whole`` (users, items) the score is the weighted mean of that and the item's own log-probability.
        """
        table, users = self.table, len(leaves)
        user, beam = np.nonzero((leaves >= 0) & np.isfinite(totals))
        leaf = leaves[user, beam]
        sizes = table.bucket_starts[leaf + 1] - table.bucket_starts[leaf]
        ends = np.cumsum(sizes)
        within = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - sizes, sizes)
        row = table.bucket_items[np.repeat(table.bucket_starts[leaf], sizes) + within]
        who, score = np.repeat(user, sizes), np.repeat(totals[user, beam], sizes) + table.shares[row]
        if whole is not None:
            score = (1 - self.config.item_weight) * score + self.config.item_weight * whole[who, row]
        left = filter_.allowed[row]
        if len(filter_.users):
            n = np.int64(len(table.codes))
            left &= ~np.isin(who * n + row, filter_.users * n + filter_.items)
        who, row, score = who[left], row[left], score[left]
        order = np.lexsort((row, -score, who))  # by user, best first, ties by row
        who, row, score = who[order], row[order], score[order]
        place = np.arange(len(who)) - np.searchsorted(who, who)
        keep = place < k
        items = np.full((users, k), -1, np.int32)
        scores = np.full((users, k), -np.inf, np.float32)
        items[who[keep], place[keep]] = row[keep]
        scores[who[keep], place[keep]] = score[keep]
        return items, scores
