"""What a service needs of others that answer from the same bundle; it knows nothing of how they are reached."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Peers(Protocol):
    """The others.

    Attributes
    ----------
    name: that of this service among them.
    """

    name: str

    async def newest(self) -> int | None:
        """Number of the last change by any of them, as it is after the call began; None where it cannot be known."""

    def reload_turn(self) -> AbstractAsyncContextManager[None]:
        """Wait for this one's turn to load a new bundle; they take turns, so that the others answer meanwhile."""

    def reload_asked(self) -> bool:
        """Whether somebody asked all of them to load the bundle anew since the last call."""
