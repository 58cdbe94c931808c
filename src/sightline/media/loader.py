"""From image references to pixels: the one entry that the service uses."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar

from blake3 import blake3

from sightline.core.chat import ImagePart
from sightline.core.errors import RequestError
from sightline.core.held_bytes import HeldBytes
from sightline.core.image_policy import ImagePolicy, policy_of
from sightline.core.limits import MIB, Limits
from sightline.core.prompt import Image
from sightline.media import refusals
from sightline.media.all_of import all_of
from sightline.media.base64_text import decode_base64
from sightline.media.decoder import DecodePool
from sightline.media.fetch import Allowance, AllowedHost, Fetcher
from sightline.media.headers import declared_size
from sightline.media.identity import LARGE_BYTES, Name, by_name, cache_key, image_digest, name_of
from sightline.media.known_base64 import LEAST_CHARS, KnownBase64
from sightline.media.local_file import MediaRoot
from sightline.media.pixel_cache import PixelCache
from sightline.media.signatures import require_image
from sightline.media.source import (
    Base64Source,
    FileSource,
    Source,
    UrlSource,
    is_type_of,
    parse_source,
)

NUM_THREADS = 2

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaOptions:
    """What this server allows.

    `allow_hosts` are `HOST` or `HOST:PORT`: exact names that may be private addresses and use any
    port (or that port). `media_root` is the folder whose files may be named. `cache_bytes` bounds
    the decoded pictures that are kept. `forbidden_endpoints` are our own listeners, address and
    port, which no URL may lead to.
    """

    allow_fetch: bool = True
    allow_hosts: tuple[str, ...] = ()
    media_root: Path | None = None
    cache_bytes: int = 32 * MIB
    forbidden_endpoints: tuple[tuple[str, int], ...] = ()


class MediaMeter(Protocol):
    """Is told what loading takes; times in seconds."""

    def fetched(self, seconds: float, num_bytes: int) -> None: ...

    def decoded(self, seconds: float) -> None: ...

    def looked_up(self, found: bytes | None) -> None:
        """`found` is the digest of a picture that was decoded already; None: it was not."""
        ...


class MediaLoader:
    """Fetches and decodes pictures. Every method runs on the event loop.

        loader = MediaLoader(limits, MediaOptions(allow_hosts=("files.example:8000",)))
        await loader.start()
        images = await loader.load(parts, policy)
        await loader.close()

    The constructor raises `StartupError` for options that cannot be right. `fetcher` is for tests.
    `meter` is told what was fetched, decoded and found; what is fetched stands in `held_bytes`.
    `known` gains the texts that turned out to be pictures.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        options: MediaOptions | None = None,
        *,
        fetcher: Fetcher | None = None,
        meter: MediaMeter | None = None,
        held_bytes: HeldBytes | None = None,
        known: KnownBase64 | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.options = options or MediaOptions()
        self._meter = meter
        self._known = known or KnownBase64()
        self._held_bytes = held_bytes or HeldBytes(self.limits.max_held_bytes)
        root = self.options.media_root
        self._root = None if root is None else MediaRoot(root)
        self._fetcher = fetcher or Fetcher(
            self.limits,
            allowed_hosts=[AllowedHost.parse(text) for text in self.options.allow_hosts],
            forbidden=self.options.forbidden_endpoints,
        )
        self._pool = DecodePool(self.limits)
        self._cache = PixelCache(self.options.cache_bytes)
        self._threads = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="media")

    @property
    def worker_pids(self) -> frozenset[int]:
        """The decode workers that are up."""
        return self._pool.pids

    async def start(self) -> None:
        """Begin to start the decode workers; they are not waited for."""
        self._pool.start()

    async def close(self) -> None:
        """End the workers. Calls of `load` must have ended."""
        await self._pool.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def load(
        self,
        parts: Sequence[ImagePart],
        policy: ImagePolicy,
        *,
        cache_salt: bytes = b"",
        fetched: "Fetched | None" = None,
    ) -> list[Image]:
        """Return one image per part, in order, as `policy` wants them; `fetched` has their bytes.

        All are fetched at once under one deadline; what is equal is fetched and decoded once.
        Raises `RequestError` with the `param` of the part to blame, `Unavailable` (`overloaded`)
        when no decode worker was free in time, and `Overloaded` when too much is held. With
        another `cache_salt` nothing decoded earlier is used. Cancelling leaves nothing running.
        """
        self._require_few(parts)
        first_parts = by_name(parts)
        images = self._known_images(first_parts, policy, cache_salt)
        missing = {name: part for name, part in first_parts.items() if name not in images}
        sources = {name: self._parse(part) for name, part in missing.items()}
        with self._held_bytes.lease() as held:
            request = _Request(cache_salt, Allowance(self.limits, held), fetched)
            if fetched is not None:
                request.media_types.update(fetched.media_types)
            images |= await all_of(
                {
                    name: self._load_part(part, sources[name], policy, request)
                    for name, part in missing.items()
                }
            )
        return [images[name_of(part)] for part in parts]

    @asynccontextmanager
    async def fetch(self, parts: Sequence[ImagePart]) -> AsyncIterator["Fetched"]:
        """Fetch what `load` will decode, and tell the sizes; the bytes are held inside.

        Raises as `load` does; a picture whose header does not tell its size is refused.
        """
        self._require_few(parts)
        first_parts = by_name(parts)
        sources = {name: self._parse(part) for name, part in first_parts.items()}
        with self._held_bytes.lease() as held:
            request = _Request(b"", Allowance(self.limits, held), None)
            read = await all_of(
                {
                    name: self._measured(part, sources[name], request)
                    for name, part in first_parts.items()
                }
            )
            yield Fetched(
                data={name: data for name, (data, _) in read.items()},
                sizes=tuple(read[name_of(part)][1] for part in parts),
                media_types=request.media_types,
            )

    def _require_few(self, parts: Sequence[ImagePart]) -> None:
        if len(parts) > self.limits.max_images:
            error = refusals.too_many_images(len(parts), self.limits)
            raise _blame(error, parts[self.limits.max_images])

    async def _measured(
        self, part: ImagePart, source: Source, request: "_Request"
    ) -> tuple[bytes, tuple[int, int]]:
        try:
            num_bytes, read = await self._reader(source, part, request)
            data = await self._compute(num_bytes, read)
            size = self._check_head(data)
            if size is None or min(size) < 1:
                raise refusals.damaged()
        except RequestError as error:
            raise _blame(error, part) from None
        return data, size

    def _parse(self, part: ImagePart) -> Source:
        try:
            source = parse_source(part.source, self.limits, files=self._root is not None)
            if isinstance(source, UrlSource) and not self.options.allow_fetch:
                raise refusals.fetching_is_off()
        except RequestError as error:
            raise _blame(error, part) from None
        return source

    async def _load_part(
        self, part: ImagePart, source: Source, policy: ImagePolicy, request: "_Request"
    ) -> Image:
        try:
            policy = policy_of(part, policy)
            num_bytes, read = await self._reader(source, part, request)
            data, key = await self._compute(
                num_bytes, self._identified, source, part, read, policy, request.cache_salt
            )
            image = await self._image(data, key, policy, request)
            declared = request.media_types.get(name_of(part))
            if declared and not is_type_of(declared, require_image(data)):
                image = replace(image, is_declared_otherwise=True)
            return image
        except RequestError as error:
            raise _blame(error, part) from None

    def _known_images(
        self, parts: Mapping[Name, ImagePart], policy: ImagePolicy, cache_salt: bytes
    ) -> dict[Name, Image]:
        """Return the pictures of texts that were read before, as far as they are still there."""
        images = {}
        for name, part in parts.items():
            if part.inline is None or (file := self._known.file_of(part.inline.digest)) is None:
                continue
            image = self._cache.get(cache_key(file, policy_of(part, policy), cache_salt))
            if image is not None:
                images[name] = image
                if self._meter is not None:
                    self._meter.looked_up(image.digest)
        return images

    async def _reader(
        self, source: Source, part: ImagePart, request: "_Request"
    ) -> tuple[int, Callable[[], bytes]]:
        """Return how large the encoded picture is, about, and what makes it, in any thread."""
        if request.fetched is not None:
            data = request.fetched.data[name_of(part)]
            return len(data), lambda: data
        match source:
            case UrlSource(url):
                began = time.monotonic()
                download = await self._fetcher.fetch(url, request.allowance)
                data = download.data
                request.media_types[name_of(part)] = download.media_type
                if self._meter is not None:
                    self._meter.fetched(time.monotonic() - began, len(data))
            case Base64Source() if part.inline is not None:
                inline = part.inline
                return inline.num_digits, lambda: decode_base64(inline.text(), self.limits)
            case Base64Source(text, start):
                return len(text), lambda: decode_base64(text[start:], self.limits)
            case FileSource(path):
                assert self._root is not None  # or `_parse` would have refused
                data = await self._in_thread(self._root.read, path, self.limits)
        return len(data), lambda: data

    def _identified(
        self,
        source: Source,
        part: ImagePart,
        read: Callable[[], bytes],
        policy: ImagePolicy,
        cache_salt: bytes,
    ) -> tuple[bytes, bytes]:
        """Return an encoded picture that passed the first checks, and its key in the cache."""
        data = read()
        self._check_head(data)
        file = blake3(data).digest()
        if isinstance(source, Base64Source) and part.inline is None:
            self._remember(source, data, file, cache_salt)
        return data, cache_key(file, policy, cache_salt)

    def _remember(self, source: Base64Source, data: bytes, file: bytes, cache_salt: bytes) -> None:
        num_digits = len(source.text) - source.start
        # As many characters as the book wants are digits, all of them.
        if num_digits >= LEAST_CHARS and num_digits == 4 * -(-len(data) // 3):
            digits = memoryview(source.text.encode("ascii"))[source.start :]
            self._known.note(self._known.digest(digits, cache_salt), file)

    def _check_head(self, data: bytes) -> tuple[int, int] | None:
        """Refuse what can be refused without a decoder: other kinds of data, sizes over a limit.

        Return the size that the header tells, as stored; None where it tells none.
        """
        size = declared_size(data, require_image(data))
        error = None if size is None else refusals.size_refusal(*size, self.limits)
        if error is not None:
            raise error
        return size

    async def _image(
        self, data: bytes, key: bytes, policy: ImagePolicy, request: "_Request"
    ) -> Image:
        async with request.locks.setdefault(key, asyncio.Lock()):
            image = request.images.get(key) or self._cache.get(key)
            if self._meter is not None:
                self._meter.looked_up(None if image is None else image.digest)
            if image is None:
                began = time.monotonic()
                image = await self._decode(data, policy)
                if self._meter is not None:
                    self._meter.decoded(time.monotonic() - began)
                self._cache.put(key, image)
            request.images[key] = image
        return image

    async def _decode(self, data: bytes, policy: ImagePolicy) -> Image:
        decoded = await self._pool.decode(data, policy)
        width, height = policy.target_size(decoded.width, decoded.height)
        # The digest is made here and not by the worker: one that a picture had taken over could
        # lie about that picture, but never put it in the place of another.
        digest = await self._compute(
            len(decoded.pixels), image_digest, decoded.pixels, policy, decoded.width, decoded.height
        )
        return Image(
            pixels=decoded.pixels,
            width=width,
            height=height,
            digest=digest,
            original_width=decoded.width,
            original_height=decoded.height,
            has_more_frames=decoded.has_more_frames,
        )

    async def _compute(self, num_bytes: int, work: Callable[..., T], *args: object) -> T:
        """Run `work` here, or in a thread when it has much to do."""
        return work(*args) if num_bytes <= LARGE_BYTES else await self._in_thread(work, *args)

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)


@dataclass(frozen=True, slots=True)
class Fetched:
    """Encoded pictures by name, and what their headers say: (width, height) of every part.

    `media_types` are what servers call the pictures that came from them, by name.
    """

    data: Mapping[Name, bytes] = field(repr=False)
    sizes: tuple[tuple[int, int], ...]
    media_types: Mapping[Name, str]


@dataclass(frozen=True, slots=True)
class _Request:
    """What the images of one request share. `locks` and `images` are by cache key.

    `media_types` are what servers call the pictures that came from them, by name.
    """

    cache_salt: bytes
    allowance: Allowance
    fetched: "Fetched | None"
    locks: dict[bytes, asyncio.Lock] = field(default_factory=dict)
    images: dict[bytes, Image] = field(default_factory=dict)
    media_types: dict[Name, str] = field(default_factory=dict)


def _blame(error: RequestError, part: ImagePart) -> RequestError:
    return RequestError(error.message, code=error.code, param=part.param)
