"""Paired tests across users, and what many tests at once cost."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from storerec.errors import DataError

_CELLS = 1 << 22
"""Most signs held at once (flips x users)."""

_TOLERANCE = 1e-9
"""Sums that differ by less than this share of the total size count as equal: they differ by rounding only."""

COVERS = (
    "p: two-sided paired randomisation test (sign flips) across users of the seed-averaged values. It says whether "
    "other users of this kind would show the difference, not whether other seeds, data or tuning would"
)
"""What a reader of the p-values must know."""


def sign_flip_p(differences: np.ndarray, *, flips: int = 10_000, seed: int = 0) -> NDArray[np.float64]:
    """Two-sided p-values of a paired randomisation test across users, by sign flips.

    Under the null hypothesis (the systems are exchangeable for every user) each user's difference has either sign
    with equal chance. The statistic is the mean difference; p is the share of sign patterns whose mean lies at
    least as far from zero as the one seen. All patterns are tried where there are no more than ``flips`` of them,
    else ``flips`` random ones, the seen one counted as one more (so p is never 0). Like
    ``scipy.stats.permutation_test(permutation_type="samples")``; recommended for retrieval by Smucker, Allan and
    Carterette, CIKM 2007.

    Parameters
    ----------
    differences
        (m, users) float, one row per test; all rows get the same flips.
    flips
        random sign patterns, at least 1.
    seed
        decides the patterns.

    Returns
    -------
    (m,) p-values in (0, 1]; 1 where no user differs.

    Raises
    ------
    DataError: differences is not (m, users) with at least one user, or not finite.
    """
    if differences.ndim != 2 or differences.shape[1] == 0 or flips < 1:
        raise DataError(
            f"a sign-flip test needs differences (m, users) and flips >= 1, got {differences.shape}, {flips}"
        )
    if not np.isfinite(differences).all():
        raise DataError("a sign-flip test needs finite differences")
    values = differences[:, (differences != 0).any(axis=0)].astype(np.float64)  # (m, users that differ anywhere)
    users = values.shape[1]
    if users == 0:
        return np.ones(len(differences))
    exact = 2**users <= flips if users < 63 else False
    tried = 2**users if exact else flips
    total = values.sum(axis=1)
    bound = np.abs(total) - _TOLERANCE * np.abs(values).sum(axis=1)
    rng = np.random.default_rng(seed)
    hits = np.zeros(len(values), dtype=np.int64)
    step = max(1, _CELLS // users)
    for start in range(0, tried, step):
        count = min(step, tried - start)
        flipped = _patterns(start, count, users) if exact else _random(rng, count, users)  # (count, users)
        # Flipping a set of users takes twice their sum away from the total.
        sums = total - 2 * (flipped.astype(np.float64) @ values.T)  # (count, m)
        hits += (np.abs(sums) >= bound).sum(axis=0)
    return hits / tried if exact else (hits + 1) / (tried + 1)


def holm(p: np.ndarray) -> NDArray[np.float64]:
    """Holm's step-down adjusted p-values: reject where these are below alpha to err in any test with at most alpha.

    Takes and gives (m,). Holm, Scandinavian Journal of Statistics 1979; valid whatever the tests' dependence.
    Raises :class:`DataError` for values outside 0 to 1.
    """
    p = np.asarray(p, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise DataError("p-values must be a row of numbers from 0 to 1")
    order = np.argsort(p, kind="stable")
    scaled = p[order] * (len(p) - np.arange(len(p)))
    out = np.empty_like(p)
    out[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return out


def _patterns(start: int, count: int, users: int) -> NDArray[np.bool_]:
    """Sign patterns number start..start+count-1 of all 2**users; the first is the one seen."""
    return (np.arange(start, start + count)[:, None] >> np.arange(users) & 1).astype(bool)


def _random(rng: np.random.Generator, count: int, users: int) -> NDArray[np.uint8]:
    bits = np.frombuffer(rng.bytes(-(-count * users // 8)), dtype=np.uint8)
    return np.unpackbits(bits, count=count * users).reshape(count, users)
