"""What every scorer is to its users: candidates in, one number each out."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from storerec.data.judgements import Candidates


@runtime_checkable
class Scorer(Protocol):
    """Says how likely users are to like given items (paper, 4.4).

    ``name`` heads its column in reports. A candidate's score depends on its own group's history and on itself: not on
    the other candidates of the group, not on the other groups, and the same call gives the same scores. Labels are no
    part of :class:`Candidates`, so none can leak.
    """

    name: str

    def score(self, candidates: Candidates) -> NDArray[np.float32]:
        """Score each candidate: (n,) finite float32, higher is better, comparable within a group."""
        ...
