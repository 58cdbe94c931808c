"""From the bytes of a request to a call in the server's own words, for every dialect."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.requests import Request
from starlette.types import Scope

from sightline.core.limits import Limits
from sightline.server.body import read_body
from sightline.server.context import context_of, header_values
from sightline.server.options import ServerOptions

T = TypeVar("T")

# Up to here a body is parsed on the event loop, within a few milliseconds at the very worst.
MAX_INLINE_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a body is understood by, besides itself: how strictly, for whom, within what bounds."""

    strict: bool
    limits: Limits
    cache_salt: bytes = field(default=b"", repr=False)


async def read_call(
    request: Request,
    options: ServerOptions,
    understand: Callable[[bytes, Terms], T],
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
    )
    body = await read_body(request.scope, request.receive, options.limits, any_type=any_type)
    if len(body) <= MAX_INLINE_BYTES:
        return understand(body, terms)
    return await asyncio.to_thread(understand, body, terms)


def _asks_strict(scope: Scope) -> bool:
    values = header_values(scope, b"x-sightline-strict")
    return any(value.strip().lower() in (b"1", b"true") for value in values)
