"""Who asks: what the service may do for the caller of the running request, and what it costs them.

The HTTP layer sets `current_caller` where it checks the key, before any route runs. It is read
here, at the one place every dialect passes through, so that no route can forget a restriction.
"""

from contextvars import ContextVar
from typing import Protocol

from sightline.core.errors import RequestError


class Caller(Protocol):
    """Rights and budget of one key. `name` labels its usage in metrics."""

    @property
    def name(self) -> str: ...

    def require_model(self, name: str) -> None:
        """Raise `RequestError` (`key_not_allowed`) unless the caller may use model `name`."""

    def require_images(self, num_images: int) -> None:
        """Raise `Overloaded` (`rate_limit_exceeded`) when the budget for images is spent."""

    def charge(self, *, tokens: int = 0, images: int = 0) -> None:
        """Take what a request has used, as soon as it is known, from the caller's budgets."""


class Anyone:
    """The caller of a server without keys and limits: may do everything and pays for nothing."""

    name = ""

    def require_model(self, name: str) -> None: ...

    def require_images(self, num_images: int) -> None: ...

    def charge(self, *, tokens: int = 0, images: int = 0) -> None: ...


ANYONE = Anyone()

current_caller: ContextVar[Caller] = ContextVar("current_caller", default=ANYONE)


def may_use(name: str) -> bool:
    """Whether the caller may use the model of that name."""
    try:
        current_caller.get().require_model(name)
    except RequestError:
        return False
    return True
