"""The errors a caller of sightline can meet.

    SightlineError
    ├── RequestError            the caller can fix it; never retried unchanged
    ├── Overloaded              too much is waiting; retry after `retry_after_s`
    ├── Unavailable             a state of the server; retry after `retry_after_s`
    ├── GenerationTimeout       the answer took longer than its time limit
    ├── InternalError           our bug, or the engine failed this one request
    └── StartupError            the server, or a command, cannot start; the operator can fix it

Texts are fixed by us: at most 300 characters, never built from a library's exception, never
quoting more than 64 characters of input. `server/error_map.py` is the one place that turns
these into HTTP.
"""

from collections.abc import Mapping, Sequence

MAX_ECHO = 64


def shorten(text: str, limit: int = MAX_ECHO) -> str:
    """Return `text` fit for quoting in a message: at most `limit` characters, printable."""
    printable = text[: limit + 1]
    if not printable.isprintable():
        printable = "".join(c if c.isprintable() else "?" for c in printable)
    return printable if len(text) <= limit else printable[: limit - 1] + "…"


class SightlineError(Exception):
    """Root of all errors that sightline raises on purpose.

    `code` is a stable, machine-readable string.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class RequestError(SightlineError):
    """The request cannot be served as it is.

    `param` is the exact path of the guilty field, for example
    `messages[0].content[1].image_url`; None when no single field is to blame.
    """

    def __init__(self, message: str, *, code: str, param: str | None = None) -> None:
        super().__init__(message, code=code)
        self.param = param


class Overloaded(SightlineError):
    """The bounded queue is full (`queue_full`) or a key's rate is spent (`rate_limit_exceeded`)."""

    def __init__(self, message: str, *, code: str = "queue_full", retry_after_s: int = 1) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class Unavailable(SightlineError):
    """The server cannot serve now.

    `code` is one of `model_loading`, `overloaded`, `draining`, `engine_restarting`.
    """

    def __init__(self, message: str, *, code: str, retry_after_s: int = 1) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class GenerationTimeout(SightlineError):
    """The time limit passed while an answer was being generated."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="generation_timeout")


class InternalError(SightlineError):
    """A failure that the caller did not cause. The message is constant; details go to the log."""

    def __init__(self, message: str = "Internal error.", *, code: str = "internal_error") -> None:
        super().__init__(message, code=code)


class StartupError(SightlineError):
    """A command cannot start. The message says what happened, where, and what to do next.

    `values` are what the message names, for those who say it in another language; `causes` the
    errors whose messages it repeats.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "startup_error",
        values: Mapping[str, str | int] | None = None,
        causes: Sequence["StartupError"] = (),
    ) -> None:
        super().__init__(message, code=code)
        self.values = dict(values or {})
        self.causes = tuple(causes)
