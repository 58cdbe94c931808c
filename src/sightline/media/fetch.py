"""Pictures by URL, without becoming a tunnel into the network of whoever runs this.

For every hop: the name is resolved once, every address of the answer is judged, and one of the
judged addresses is dialled as a number; the name is left only in SNI, the certificate check and
the Host header. Redirects are followed here, each judged like the first. No proxy, no cookie, no
second resolution, no connection kept.
"""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import truststore

from sightline.core.errors import StartupError, shorten
from sightline.core.held_bytes import Lease
from sightline.core.limits import Limits
from sightline.media import refusals
from sightline.media.addresses import IPAddress, is_public, parse_address, plain
from sightline.media.http_get import Answer, get
from sightline.media.resolve import Resolve, SystemResolver
from sightline.media.url import DEFAULT_PORTS, WebUrl, follow, parse_authority

CONNECT_TIMEOUT_S = 3.0
NUM_CONNECT_ATTEMPTS = 2
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

# Connects to an address, given as a number, and a port; with a context, speaks TLS as `name`.
Dial = Callable[[str, int, ssl.SSLContext | None, str], Awaitable[Streams]]


async def dial_directly(address: str, port: int, tls: ssl.SSLContext | None, name: str) -> Streams:
    return await asyncio.open_connection(
        address, port, ssl=tls, server_hostname=name if tls else None
    )


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """An exact host name or address that may be private; `port` None means any port."""

    host: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> "AllowedHost":
        """Read `HOST[:PORT]`; raises `StartupError`."""
        with contextlib.suppress(ValueError):
            return cls(str(ipaddress.IPv6Address(text)), None)
        try:
            return cls(*parse_authority(text))
        except ValueError:
            raise StartupError(
                f"--allow-media-host: '{shorten(text)}' is not HOST or HOST:PORT.",
                code="allow_media_host",
            ) from None


@dataclass(frozen=True, slots=True)
class Download:
    """What a URL leads to, and what its server calls it; empty if it says nothing."""

    data: bytes = field(repr=False)
    media_type: str


class Allowance:
    """How much one request may still fetch, and until when (in the event loop's time)."""

    def __init__(self, limits: Limits, held: Lease | None = None) -> None:
        self.deadline = asyncio.get_running_loop().time() + limits.fetch_timeout_s
        self._limits = limits
        self._num_bytes_left = limits.max_fetch_bytes
        self._held = held

    def spend(self, num_bytes: int) -> None:
        """Raises `RequestError` (`image_file_too_large`) when it is used up.

        Raises `Overloaded` when all requests together hold too much.
        """
        self._num_bytes_left -= num_bytes
        if self._num_bytes_left < 0:
            raise refusals.fetched_too_much(self._limits)
        if self._held is not None:
            self._held.take(num_bytes)


class Fetcher:
    """Downloads pictures, at most `limits.max_fetches` at once. Event loop only.

    `forbidden` are our own listeners, never dialled whoever allows it. `resolve`, `dial` and
    `tls` are for tests; whom may be dialled is judged here in any case.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        allowed_hosts: Collection[AllowedHost] = (),
        forbidden: Collection[tuple[str, int]] = (),
        resolve: Resolve | None = None,
        dial: Dial = dial_directly,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._limits = limits
        self._allowed = frozenset(allowed_hosts)
        self._forbidden = frozenset((parse_address(host), port) for host, port in forbidden)
        self._resolve = resolve or SystemResolver()
        self._dial = dial
        self._tls = tls
        self._places = asyncio.Semaphore(limits.max_fetches)

    async def fetch(self, url: WebUrl, allowance: Allowance) -> Download:
        """Return what `url` leads to.

        Raises `RequestError`: `image_url_blocked`, `failed_to_download_image`,
        `image_file_too_large`, and `invalid_image_url` for a redirect to something else.
        """
        try:
            async with asyncio.timeout_at(allowance.deadline), self._places:
                return await self._follow(url, allowance)
        except TimeoutError:
            raise refusals.download_timed_out(self._limits) from None

    async def _follow(self, url: WebUrl, allowance: Allowance) -> Download:
        for _ in range(self._limits.max_redirects + 1):
            async with self._connection(url) as (reader, writer):
                answer = await get(url, reader, writer, self._limits)
                if answer.status not in _REDIRECTS:
                    return Download(await self._read(answer, allowance), answer.media_type)
                url = self._redirect(url, answer)
        raise refusals.download_failed(f"more than {self._limits.max_redirects} redirects")

    def _redirect(self, url: WebUrl, answer: Answer) -> WebUrl:
        location = answer.headers.get(b"location", b"")
        if not location:
            raise refusals.download_failed("a redirect without a target")
        target = follow(url, location.decode("utf-8", "replace"), self._limits)
        if url.scheme == "https" and target.scheme == "http":
            raise refusals.download_failed("a redirect from https to http")
        return target

    async def _read(self, answer: Answer, allowance: Allowance) -> bytes:
        if answer.status != 200:
            raise refusals.download_failed(f"upstream status {answer.status}")
        if answer.is_encoded:
            raise refusals.download_failed("the answer is compressed")
        length = answer.content_length
        if length is not None and length > self._limits.max_image_bytes:
            raise refusals.file_too_large(length, self._limits)
        data = bytearray()
        async for piece in answer.body():
            allowance.spend(len(piece))
            data += piece
            if len(data) > self._limits.max_image_bytes:
                raise refusals.file_too_large(len(data), self._limits)
        return bytes(data)

    @asynccontextmanager
    async def _connection(self, url: WebUrl) -> AsyncIterator[Streams]:
        """Open a connection to an address of `url` that has passed the judge."""
        addresses = await self._judged_addresses(url)
        streams = await self._connect(url, addresses)
        try:
            yield streams
        finally:
            streams[1].transport.abort()  # nothing is owed to a stranger, not even a goodbye

    async def _judged_addresses(self, url: WebUrl) -> list[str]:
        """Resolve once; return all addresses of `url`, or raise if one of them is not allowed."""
        is_allowed = any(
            allowed.host == url.host and allowed.port in (None, url.port)
            for allowed in self._allowed
        )
        if not is_allowed and url.port not in DEFAULT_PORTS.values():
            raise refusals.port_not_allowed(url.host, url.port)
        addresses = await self._addresses(url)
        for address in addresses:
            if self._is_ours(address, url.port):
                raise refusals.own_listener(url.host, url.port)
            if not is_allowed and not is_public(address):
                raise refusals.host_not_public(url.host)
        return [str(address) for address in addresses]

    async def _addresses(self, url: WebUrl) -> list[IPAddress]:
        with contextlib.suppress(ValueError):
            return [parse_address(url.host)]
        try:
            addresses = [parse_address(text) for text in await self._resolve(url.host, url.port)]
        except (OSError, ValueError):
            addresses = []
        if not addresses:
            raise refusals.download_failed(f"host '{shorten(url.host)}' is not known")
        return addresses

    def _is_ours(self, address: IPAddress, port: int) -> bool:
        """Whether one of our own listeners would take a connection to there."""
        address = plain(address)
        for listener, listener_port in self._forbidden:
            if port != listener_port:
                continue
            if address == plain(listener) or address.is_unspecified:
                return True
            if listener.is_unspecified and _is_of_this_machine(address):
                return True
        return False

    async def _connect(self, url: WebUrl, addresses: Sequence[str]) -> Streams:
        tls = await self._tls_context() if url.scheme == "https" else None
        for address in _attempts(addresses):
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    return await self._dial(address, url.port, tls, url.host)
            except ssl.SSLCertVerificationError:
                raise refusals.download_failed("the TLS certificate is not valid") from None
            except ssl.SSLError:
                raise refusals.download_failed("the TLS handshake failed") from None
            except (OSError, TimeoutError):
                continue
        raise refusals.download_failed(f"cannot connect to '{shorten(url.host)}'")

    async def _tls_context(self) -> ssl.SSLContext:
        if self._tls is not None:
            return self._tls
        # In a thread: reading the machine's certificates takes a while.
        tls = await asyncio.to_thread(truststore.SSLContext, ssl.PROTOCOL_TLS_CLIENT)
        self._tls = tls
        return tls


def _attempts(addresses: Sequence[str]) -> list[str]:
    """The addresses to try: the first, then one of the other family, else the next, else again."""
    first, *others = addresses
    other_family = [other for other in others if (":" in other) != (":" in first)]
    return [first, *(other_family or others or [first])][:NUM_CONNECT_ATTEMPTS]


def _is_of_this_machine(address: IPAddress) -> bool:
    """Whether `address` belongs to this machine: only then can a socket be bound to it."""
    if address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
