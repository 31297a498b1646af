"""Why a request is not answered: each reason with its HTTP status and its name in the answer."""

from __future__ import annotations


class RefusalError(Exception):
    """A request that cannot be answered, for a reason its client may read.

    Attributes
    ----------
    status: of HTTP.
    kind: name of the reason, for programs.
    retry_after: seconds after which it makes sense to ask again; None where that would not help.
    """

    status, kind = 500, "internal"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QueueFullError(RefusalError):
    """More requests wait than may."""

    status, kind = 429, "queue_full"


class DeadlineError(RefusalError):
    """There was no answer in time."""

    status, kind = 503, "deadline_passed"


class NotReadyError(RefusalError):
    """The model is being loaded, or the service is stopping."""

    status, kind = 503, "not_ready"


class UnknownItemError(RefusalError):
    """The item asked about is not in the catalogue."""

    status, kind = 404, "unknown_item"


class GoneError(RefusalError):
    """The client has gone; nobody reads this."""

    status, kind = 499, "client_gone"


class LimitError(RefusalError):
    """A list or a number of a request is beyond what the service takes."""

    status, kind = 422, "invalid_request"
