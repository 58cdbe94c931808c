"""One engine process and the two sockets to it."""

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec
import zmq
import zmq.asyncio

from sightline.backends.launch import launch, tell
from sightline.core.engine_options import EngineOptions, KernelName
from sightline.core.wire import COMMANDS, ON_TRIAL, REPORTS, Command, Report, decode_hook

_KINDS = {message: kind for kind, message in COMMANDS.items()}
_ENCODER = msgspec.msgpack.Encoder()
_DECODERS = {
    kind: msgspec.msgpack.Decoder(message, dec_hook=decode_hook)
    for kind, message in REPORTS.items()
}
_DUMP_S = 0.5


class UnreadableReport(Exception):
    """The process sent something that is no report: it must not be trusted any further."""


class EngineProcess:
    """A child process from its start to `close`. Every method runs on the event loop.

    `exited` gets the exit status. The process ends when this one does: its standard input closes.
    """

    def __init__(
        self,
        context: zmq.asyncio.Context,
        folder: Path,
        number: int,
        options: EngineOptions,
        waiting: subprocess.Popen[bytes] | None = None,
    ) -> None:
        """Start the process; `folder` is private to this user, `number` new for each process.

        `waiting` is one of `launch_ahead` or `engine.probe` that becomes the engine in the place of
        a new one.
        """
        loop = asyncio.get_running_loop()
        commands, reports = folder / f"commands-{number}", folder / f"reports-{number}"
        self._journal = folder / f"journal-{number}"
        self._files = (commands, reports, self._journal)
        self._commands = _bind(context, zmq.PUSH, commands)
        self._reports = _bind(context, zmq.PULL, reports)
        self._outbox: asyncio.Queue[Sequence[bytes]] = asyncio.Queue()
        arguments = [
            f"--commands=ipc://{commands}",
            f"--reports=ipc://{reports}",
            f"--journal={self._journal}",
            f"--parent={os.getpid()}",
            f"--options={msgspec.json.encode(options).decode()}",
        ]
        self._process = launch(arguments) if waiting is None else tell(waiting, arguments)
        self.exited: asyncio.Future[int] = loop.create_future()
        threading.Thread(target=self._wait, args=(loop,), name="engine-exit", daemon=True).start()
        self._sender = asyncio.create_task(self._send_all())

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, command: Command, pixels: Sequence[bytes] = ()) -> None:
        """Queue a command; the order is kept, the pixels are not copied."""
        self._outbox.put_nowait((_KINDS[type(command)], _ENCODER.encode(command), *pixels))

    async def receive(self) -> Report:
        """Wait for the next report. Raises `UnreadableReport`."""
        return _decode(await self._reports.recv_multipart())

    def on_device(self) -> frozenset[str]:
        """Return the ids of the requests that were on the device at the end of the process.

        To be called after `end` and before `close`.
        """
        try:
            count, *ids = self._journal.read_text().splitlines()
            return frozenset(ids[: int(count)])
        except (OSError, ValueError):
            return frozenset()

    def on_trial(self) -> KernelName | None:
        """Return which kernels the process was trying when it ended, or is trying; as above."""
        try:
            line, _, _ = self._journal.read_text().partition("\n")
            name: KernelName = msgspec.convert(line.removeprefix(ON_TRIAL), KernelName)
            return name
        except (OSError, ValueError):
            return None

    async def dump_stacks(self) -> None:
        """Let the process write the stacks of its threads to the log."""
        if not self.exited.done():
            self._process.send_signal(signal.SIGUSR1)
            await asyncio.sleep(_DUMP_S)

    async def end(self) -> None:
        """Kill the process if it still runs, and wait until it is gone."""
        if not self.exited.done():
            self._process.kill()
        await self.exited

    async def close(self) -> None:
        """End the process and remove its sockets and its journal."""
        await self.end()
        self._sender.cancel()
        await asyncio.gather(self._sender, return_exceptions=True)
        assert self._process.stdin is not None
        self._process.stdin.close()
        for socket in (self._commands, self._reports):
            socket.close(linger=0)
        for file in self._files:
            file.unlink(missing_ok=True)

    async def _send_all(self) -> None:
        while True:
            frames = await self._outbox.get()
            await self._commands.send_multipart(frames, copy=False)

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        status = self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            loop.call_soon_threadsafe(self.exited.set_result, status)


def _bind(context: zmq.asyncio.Context, kind: int, file: Path) -> zmq.asyncio.Socket:
    socket = context.socket(kind)
    socket.set_hwm(0)
    socket.bind(f"ipc://{file}")
    return socket


def _decode(frames: Sequence[bytes]) -> Report:
    try:
        kind, body = frames
        report: Report = _DECODERS[kind].decode(body)
    except (ValueError, KeyError, msgspec.DecodeError) as error:
        raise UnreadableReport from error
    return report
