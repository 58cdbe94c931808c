"""One GET over one connection that is already open: bounded headers, then the body in pieces.

Written on h11, the state machine below most clients, because this needs less than a client does
and each bound has to be visible: nothing is followed, decoded, kept alive or stored.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import h11

import sightline
from sightline.core.errors import RequestError
from sightline.core.limits import KIB, Limits
from sightline.media import refusals
from sightline.media.url import WebUrl

_READ_BYTES = 16 * KIB  # so that an answer in tiny chunks holds the loop for a moment only
_MAX_INFORMATIONAL = 8


@dataclass(slots=True)
class Answer:
    """Status and headers of an answer, and the connection its body will come from."""

    status: int
    headers: dict[bytes, bytes] = field(repr=False)
    _connection: h11.Connection = field(repr=False)
    _reader: asyncio.StreamReader = field(repr=False)
    _limits: Limits = field(repr=False)

    @property
    def content_length(self) -> int | None:
        text = self.headers.get(b"content-length")
        return None if text is None else int(text)

    @property
    def media_type(self) -> str:
        """What the server calls the body, without parameters; empty if it says nothing."""
        text = self.headers.get(b"content-type", b"").decode("latin-1")
        return text.partition(";")[0].strip()

    @property
    def is_encoded(self) -> bool:
        return self.headers.get(b"content-encoding", b"identity").strip().lower() != b"identity"

    async def body(self) -> AsyncIterator[bytes]:
        """The body, piece by piece.

        Raises `RequestError` if it ends too early or comes in too many pieces.
        """
        for _ in range(self._limits.max_body_chunks + 1):
            event = await _next_event(self._connection, self._reader)
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return
            else:
                raise refusals.download_failed("the connection was lost")
        raise refusals.download_failed("the answer comes in too many pieces")


async def get(
    url: WebUrl, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limits: Limits
) -> Answer:
    """Ask for `url` and return the head of the answer.

    Raises `RequestError` (`failed_to_download_image`) when that is not HTTP, is too long, or does
    not come.
    """
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.max_header_bytes)
    request = h11.Request(
        method="GET",
        target=url.target,
        headers=[
            ("Host", url.authority),
            ("User-Agent", f"sightline/{sightline.__version__}"),
            ("Accept", "image/*"),
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
        ],
    )
    try:
        writer.write(connection.send(request) or b"")
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        await writer.drain()
    except OSError:
        raise refusals.download_failed("the connection was lost") from None
    for _ in range(_MAX_INFORMATIONAL):
        event = await _next_event(connection, reader)
        if isinstance(event, h11.InformationalResponse):
            continue
        if not isinstance(event, h11.Response):
            raise refusals.download_failed("the connection was lost")
        if len(event.headers) > limits.max_headers:
            raise refusals.download_failed(f"more than {limits.max_headers} headers")
        # h11 bounds only a head that comes in pieces; one that fits a single read passes it.
        if sum(len(name) + len(value) for name, value in event.headers) > limits.max_header_bytes:
            raise refusals.download_failed(f"headers over {limits.max_header_bytes // KIB} KiB")
        return Answer(event.status_code, dict(event.headers), connection, reader, limits)
    raise refusals.download_failed("the answer is not proper HTTP")


async def _next_event(connection: h11.Connection, reader: asyncio.StreamReader) -> object:
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            raise _protocol_error(connection) from None
        if event is not h11.NEED_DATA:
            return event
        try:
            connection.receive_data(await reader.read(_READ_BYTES))
        except OSError:
            raise refusals.download_failed("the connection was lost") from None


def _protocol_error(connection: h11.Connection) -> RequestError:
    if connection.trailing_data[1]:
        return refusals.download_failed("the connection was lost")
    return refusals.download_failed("the answer is not proper HTTP, or its header is too long")
