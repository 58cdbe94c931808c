"""One decode worker as the front sees it: started, asked, watched, killed."""

import asyncio
import contextlib
import math
import os
import sys
from dataclasses import dataclass, field

from sightline.core.children import import_path
from sightline.core.errors import RequestError
from sightline.core.image_policy import ImagePolicy
from sightline.core.limits import Limits
from sightline.media import frames, refusals
from sightline.media.frames import Status

START_TIMEOUT_S = 30.0
MEMORY_POLL_S = 0.05
_READ_BUFFER_BYTES = 1024 * 1024


class WorkerStartError(Exception):
    """A worker did not come up. A fault of this installation, never of a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """RGB pixels as the model wants them, and the size of the picture as displayed.

    `has_more_frames`: these are the first one's.
    """

    pixels: bytes = field(repr=False)
    width: int
    height: int
    has_more_frames: bool = False


class DecodeProcess:
    """A child process that decodes one picture at a time.

    Made by `start`. It is not used again once `decode` has raised anything but a judgement of the
    worker itself: `is_alive` is False then, and the process is gone or going.
    """

    def __init__(self, process: asyncio.subprocess.Process, limits: Limits) -> None:
        self._process = process
        self._limits = limits
        self._memory = _ResidentMemory(process.pid)
        self._killed = False
        self.num_decoded = 0

    @classmethod
    async def start(cls, limits: Limits) -> "DecodeProcess":
        """Return a worker that is ready for its first picture; raises `WorkerStartError`."""
        command = [
            *(sys.executable, "-P", "-m", "sightline.media.decode_worker"),
            *map(str, (limits.max_image_pixels, limits.max_image_side, limits.max_image_ratio)),
            *(str(limits.decode_address_bytes), str(math.ceil(limits.decode_timeout_s))),
        ]
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                limit=_READ_BUFFER_BYTES,
                # Nothing of the server's environment, where keys may be, goes along.
                env={"PYTHONPATH": import_path()},
                # A Ctrl-C at the terminal is for the server, which still has pictures to finish.
                process_group=0,
            )
        except OSError:
            raise WorkerStartError("cannot start a process") from None
        worker = cls(process, limits)
        try:
            await worker._read_hello()
        except BaseException:
            await worker.end()
            raise
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return not self._killed and self._process.returncode is None

    @property
    def _stdin(self) -> asyncio.StreamWriter:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _stdout(self) -> asyncio.StreamReader:
        assert self._process.stdout is not None
        return self._process.stdout

    async def decode(self, data: bytes, target: ImagePolicy) -> Decoded:
        """Return the picture in `data`, resized as `target` says.

        Raises `RequestError`. A worker that took too long or too much memory, died, or did not
        keep to the protocol is killed; so is one whose picture is no longer wanted, when this is
        cancelled.
        """
        exchange = asyncio.ensure_future(self._exchange(data, target))
        answered = False
        try:
            async with asyncio.timeout(self._limits.decode_timeout_s):
                while not exchange.done():
                    await asyncio.wait({exchange}, timeout=MEMORY_POLL_S)
                    if not exchange.done() and self._memory.read() > self._limits.decode_rss_bytes:
                        raise refusals.decoding_too_big(self._limits)
            reply, pixels = exchange.result()
            answered = True
        except TimeoutError:
            raise refusals.decoding_too_slow(self._limits) from None
        except (EOFError, OSError, ValueError):
            raise refusals.damaged() from None
        finally:
            if not answered:
                self.kill()
                exchange.cancel()
                await asyncio.gather(exchange, return_exceptions=True)
        self.num_decoded += 1
        if reply.is_ok:
            return Decoded(
                pixels=pixels,
                width=reply.width,
                height=reply.height,
                has_more_frames=reply.status is Status.FIRST_FRAME,
            )
        raise self._refusal(reply)

    def kill(self) -> None:
        """End the process now, whatever it is doing. `end` waits for it."""
        self._killed = True
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def wait(self) -> None:
        """Return when the process has ended, for whatever reason."""
        await self._process.wait()

    async def end(self) -> None:
        """Kill the process and let go of all that belonged to it."""
        self.kill()
        self._stdin.close()
        await self._process.wait()
        self._memory.close()
        with contextlib.suppress(Exception):
            await self._stdout.read()

    async def _read_hello(self) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                hello = await self._stdout.read(len(frames.HELLO))
        except TimeoutError:
            raise WorkerStartError(f"not ready after {START_TIMEOUT_S:g} s") from None
        if hello != frames.HELLO:
            raise WorkerStartError("it ended before it was ready")

    async def _exchange(self, data: bytes, target: ImagePolicy) -> tuple[frames.Reply, bytes]:
        self._stdin.write(frames.pack_request(len(data), target))
        self._stdin.write(data)
        await self._stdin.drain()
        reply = frames.unpack_reply(await self._stdout.readexactly(frames.REPLY_HEAD_BYTES))
        if reply.is_ok and (reply.width < 1 or reply.height < 1):
            raise ValueError("a picture without a size")
        expected = (
            3 * math.prod(target.target_size(reply.width, reply.height)) if reply.is_ok else 0
        )
        if reply.num_pixel_bytes != expected:
            raise ValueError("not the number of bytes that was asked for")
        if (
            reply.is_ok
            and refusals.size_refusal(reply.width, reply.height, self._limits) is not None
        ):
            raise ValueError("a size that should have been refused")
        return reply, await self._stdout.readexactly(expected)

    def _refusal(self, reply: frames.Reply) -> RequestError:
        if reply.status is Status.DAMAGED:
            return refusals.damaged()
        too_large = refusals.size_refusal(reply.width, reply.height, self._limits)
        if too_large is None or too_large.code != "image_too_large":
            return refusals.frame_too_large(self._limits)
        return too_large


class _ResidentMemory:
    """The resident memory of a process where /proc tells it; elsewhere always 0."""

    def __init__(self, pid: int) -> None:
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        try:
            self._fd = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1

    def read(self) -> int:
        if self._fd < 0:
            return 0
        try:
            return int(os.pread(self._fd, 128, 0).split()[1]) * self._page_bytes
        except (OSError, IndexError, ValueError):
            return 0  # it has just ended

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
