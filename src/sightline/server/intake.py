"""From the bytes of a request to a call in the server's own words, for every dialect."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, TypeVar

from starlette.requests import Request
from starlette.types import Scope

from sightline.core.errors import RequestError
from sightline.core.limits import Limits
from sightline.media.known_base64 import KnownBase64
from sightline.server.body import read_body
from sightline.server.context import context_of, header_values
from sightline.server.known_pictures import NOTHING, Misplaced, TakenOut, take_out
from sightline.server.options import ServerOptions
from sightline.server.received import Received

T = TypeVar("T")

# Up to here a body is parsed on the event loop, within a few milliseconds at the very worst.
MAX_INLINE_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a body is understood by, besides itself: how strictly, for whom, within what bounds.

    `known` are pictures that were read before, `taken` those of them that were taken out.
    """

    strict: bool
    limits: Limits
    cache_salt: bytes = field(default=b"", repr=False)
    known: KnownBase64 = field(default_factory=KnownBase64, repr=False)
    taken: TakenOut = field(default=NOTHING, repr=False)


Understand = Callable[[bytes, Terms], T]


class WithoutKnown(Generic[T]):
    """Spares `understand` the pictures that are known; it must put back `Terms.taken`.

    Whatever is unusual about a body without them, an error or a mark that does not end up as the
    address of a picture, makes it be read again as it came: what a client is told never depends on
    what is known.
    """

    def __init__(self, understand: Understand[T]) -> None:
        self._understand = understand

    def __call__(self, body: Received, terms: Terms) -> T:
        found = self.briefly(body, terms, body.size)
        return self._understand(body.whole(), terms) if found is None else found

    def briefly(self, body: Received, terms: Terms, max_bytes: int) -> T | None:
        """Return what a body without known pictures means, if nothing about it is unusual.

        None also if nothing is known, or if more than `max_bytes` are left without the pictures.
        """
        short, taken = take_out(body, terms.known, terms.cache_salt)
        if taken is not NOTHING and len(short) <= max_bytes:
            with suppress(RequestError, Misplaced):
                return self._understand(short, replace(terms, taken=taken))
        return None


async def read_call(
    request: Request,
    options: ServerOptions,
    understand: Understand[T] | WithoutKnown[T],
    *,
    any_type: bool = False,
) -> T:
    """Read the body and return what `understand` makes of it; large ones in a thread.

    `any_type`: it is JSON whatever its headers say, as some dialects have it.
    """
    terms = Terms(
        strict=options.strict or _asks_strict(request.scope),
        limits=options.limits,
        cache_salt=context_of(request.scope).cache_salt,
        known=options.known,
    )
    body = await read_body(
        request.scope,
        request.receive,
        options.limits,
        recogniser=partial(options.known.recogniser, terms.cache_salt),
        any_type=any_type,
    )

    def read() -> T:
        if isinstance(understand, WithoutKnown):
            return understand(body, terms)
        return understand(body.whole(), terms)

    if body.size <= MAX_INLINE_BYTES:
        return read()
    if (
        isinstance(understand, WithoutKnown)
        and (found := understand.briefly(body, terms, MAX_INLINE_BYTES)) is not None
    ):
        return found
    return await asyncio.to_thread(read)


def _asks_strict(scope: Scope) -> bool:
    values = header_values(scope, b"x-sightline-strict")
    return any(value.strip().lower() in (b"1", b"true") for value in values)
