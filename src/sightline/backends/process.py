"""The engine in a process of its own, watched and replaced.

What happens to a request when the engine dies or hangs: one that has sent tokens ends with
`engine_restarting`; one that has sent nothing is given to the next engine, and so is one that
arrives meanwhile. A prompt that was on the device in two crashes is refused. Somebody who kills
the process with a signal proves nothing against a prompt, unless it was alone there.
"""

import asyncio
import logging
import shutil
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import zmq.asyncio

from sightline.backends import refusals
from sightline.backends.child import EngineProcess, UnreadableReport
from sightline.backends.deaths import count_memory_kills, describe_exit
from sightline.backends.ledger import Ledger, LiveRequest, fingerprint_in
from sightline.backends.left_out import LeftOut
from sightline.backends.quarantine import Quarantine
from sightline.backends.watch import Watch
from sightline.core.engine import EngineInfo, EngineStats, TokenDelta
from sightline.core.engine_options import EngineOptions, KernelName
from sightline.core.errors import InternalError, StartupError
from sightline.core.prompt import Prompt
from sightline.core.sampling import SamplingParams
from sightline.core.wire import Abort, Loading, Ready, Report, Shutdown, StartFailed, StepOutput

logger = logging.getLogger(__name__)

WATCH_S = 0.5
# Besides it takes an interval and the writing of stacks: clients hear of a hang within ten seconds.
HANG_TIMEOUT_S = 9.0
SHUTDOWN_S = 2.0
LAST_WORDS_S = 0.2
MAX_FILE_NAME = 24
# A process that imports torch on a busy machine and then reads a large file says nothing for long.
LOADING_TIMEOUT_S = 300.0
# Before the next start, after so many processes in a row that never got ready.
BACKOFF_S = (0.0, 2.0, 4.0, 8.0, 16.0, 30.0)


class ProcessEngine:
    """Implements `core.engine.Engine` with one child process at a time.

    `on_loading` is told (bytes done, bytes in total) while weights load. `hang_timeout_s` is the
    least silence that counts as a hang; `restart_wait_s` is how long a request waits for the next
    engine. The first process may be `waiting` already, see `launch`. Every method runs on the
    event loop. A process that ends while it tries kernels at its start (see `models.gpu.trials`) is
    followed by one without them, and so is the second one that dies on a GPU in service.
    """

    def __init__(
        self,
        options: EngineOptions,
        *,
        on_loading: Callable[[int, int], None] = lambda done, total: None,
        hang_timeout_s: float = HANG_TIMEOUT_S,
        restart_wait_s: float = 30.0,
        waiting: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self._options = options
        self._waiting = waiting
        self._on_loading = on_loading
        self._hang_timeout_s = hang_timeout_s
        self._restart_wait_s = restart_wait_s
        self._ledger = Ledger()
        self._quarantine = Quarantine()
        self._left_out = LeftOut(options.without_kernels)
        self._suspects: deque[LiveRequest] = deque()
        self._suspect: LiveRequest | None = None
        self._info: EngineInfo | None = None
        self._load_s = 1.0
        self._num_restarts = 0
        self._past = EngineStats()  # of the processes before the current one
        self._is_closing = False
        self._loaded: asyncio.Future[None] | None = None
        self._supervisor: asyncio.Task[None] | None = None
        # Of the current process:
        self._child: EngineProcess | None = None
        self._started_at = 0.0
        self._watch = Watch(hang_timeout_s)
        self._is_up = False
        self._got_ready = False
        self._has_abort_ahead = False
        self._stats = EngineStats()
        self._newly_left_out: KernelName | None = None

    async def start(self) -> None:
        """Start the engine and wait until it works. Raises `StartupError`."""
        self._loaded = loaded = asyncio.get_running_loop().create_future()
        self._supervisor = asyncio.create_task(self._supervise(loaded))
        await loaded

    @property
    def info(self) -> EngineInfo:
        if self._info is None:
            raise refusals.loading()
        return self._info

    @property
    def is_ready(self) -> bool:
        return self._is_up and self._watch.silent_s < self._hang_timeout_s / 2

    async def generate(
        self, prompt: Prompt, params: SamplingParams, request_id: str
    ) -> AsyncGenerator[TokenDelta, None]:
        if self._is_closing:
            raise refusals.draining()
        if self._info is None:
            raise refusals.loading()
        wire_id, request = self._ledger.open(prompt, params)
        logger.debug("request %s is %s in the engine", request_id, wire_id)
        try:
            self._submit(request)
            while True:
                delta = await request.stream.next()
                yield delta
                if delta.finish_reason is not None:
                    return
        finally:
            self._ledger.close(wire_id)
            if request.is_sent and not request.stream.is_finished and self._child is not None:
                self._child.send(Abort(request_id=wire_id))
                self._has_abort_ahead = True
            self._try_next_suspect()

    async def stats(self) -> EngineStats:
        unsent = sum(not request.is_sent for request in self._ledger.live.values())
        return replace(
            self._stats.behind(self._past),
            num_waiting=self._stats.num_waiting + unsent,
            num_restarts=self._num_restarts,
        )

    async def close(self) -> None:
        """End live requests with `draining` and stop the engine; it is gone on return."""
        if self._is_closing or self._supervisor is None:
            return
        self._is_closing = True
        self._ledger.fail_all(refusals.draining)
        if self._is_up and self._child is not None:
            self._child.send(Shutdown())
            await asyncio.wait((self._child.exited,), timeout=SHUTDOWN_S)
        self._supervisor.cancel()
        await asyncio.gather(self._supervisor, return_exceptions=True)
        if self._loaded is not None:
            self._loaded.cancel()  # a `start` that still waits

    @property
    def _is_busy(self) -> bool:
        """Whether the engine has work: somebody waits for it, or it has not let go of who left."""
        held = self._stats.num_running + self._stats.num_waiting
        return bool(self._ledger.live or held or self._has_abort_ahead)

    def _submit(self, request: LiveRequest) -> None:
        """Send `request`, or keep it until there is an engine, or until it is alone."""
        if self._quarantine.is_refused(request.fingerprint):
            request.stream.fail(refusals.quarantined())
        elif not self._is_up:
            request.expire_in(self._restart_wait_s, refusals.restarting(self._load_s))
        elif self._quarantine.is_suspect(request.fingerprint):
            self._suspects.append(request)
            self._try_next_suspect()
        else:
            self._send(request)

    def _send(self, request: LiveRequest) -> None:
        assert self._child is not None
        assert request.message is not None
        request.do_not_expire()
        request.is_sent = True
        self._child.send(request.message, request.pixels)

    def _try_next_suspect(self) -> None:
        """Send the next prompt that met a crash, if none of them is being tried.

        One at a time: should it happen again, only one is to blame.
        """
        if not self._is_up or (self._suspect is not None and self._is_on_trial(self._suspect)):
            return
        self._suspect = None
        while self._suspects and self._suspect is None:
            candidate = self._suspects.popleft()
            if candidate.awaits_tokens:
                self._suspect = candidate
                self._send(candidate)

    def _is_on_trial(self, suspect: LiveRequest) -> bool:
        if not self._quarantine.is_tried_alone(suspect.fingerprint):
            return suspect.awaits_tokens
        return suspect.is_open and not suspect.stream.is_finished

    async def _supervise(self, loaded: "asyncio.Future[None]") -> None:
        """Keep one engine process running until cancelled, or until the first cannot start."""
        context = zmq.asyncio.Context()
        failures = 0
        try:
            while True:
                error: StartupError | None = None
                self._newly_left_out = None
                try:
                    # A new one each time: whoever tidies up may have taken the last one away.
                    with _private_folder() as folder:
                        cause = await self._run(context, folder, loaded)
                except StartupError as raised:
                    error, cause = raised, f"could not start: {raised.message}"
                if self._newly_left_out is not None:
                    logger.error(
                        "the engine process %s; the next one leaves out %s kernels, which may be "
                        "why (--without-kernels %s leaves them out from the start)",
                        cause,
                        self._newly_left_out,
                        self._newly_left_out,
                    )
                    if not self._got_ready:
                        continue
                if self._info is None:
                    told = f"The engine process {cause} while loading the model."
                    if not loaded.done():
                        loaded.set_exception(error or StartupError(told))
                    return
                failures = 0 if self._got_ready else failures + 1
                delay_s = BACKOFF_S[min(failures, len(BACKOFF_S)) - 1] if failures else 0.0
                logger.error("the engine process %s; a new one in %.0f s", cause, delay_s)
                self._num_restarts += 1
                self._sort_out_the_living()
                await asyncio.sleep(delay_s)
        except Exception:  # a bug of ours; nobody shall wait for ever because of it
            logger.exception("the engine is not supervised any more")
            if not loaded.done():
                loaded.set_exception(InternalError())
            self._ledger.fail_all(InternalError)
        finally:
            context.destroy(linger=0)

    def _leave_out(self, child: EngineProcess) -> KernelName | None:
        """Return the kernels that the next process goes without because of how this one died."""
        if not self._got_ready:
            return self._left_out.after_start(child.on_trial())
        if self._info is None or not self._info.device.startswith("cuda"):
            return None
        return self._left_out.after_service(time.monotonic())

    async def _run(
        self, context: zmq.asyncio.Context, folder: Path, loaded: "asyncio.Future[None]"
    ) -> str:
        """Run one process to its end and say what it did. Raises `StartupError`."""
        self._watch, self._stats = Watch(self._hang_timeout_s), EngineStats()
        self._is_up, self._got_ready, self._has_abort_ahead = False, False, False
        self._started_at = time.monotonic()
        memory_kills = count_memory_kills()
        try:
            options = replace(self._options, without_kernels=self._left_out.names)
            child = EngineProcess(context, folder, self._num_restarts, options, self._waiting)
            self._waiting = None
        except (OSError, zmq.ZMQError) as error:
            raise StartupError("The system gives no new process for the engine.") from error
        self._child = child
        reading = asyncio.create_task(self._read(child, loaded))
        watching = asyncio.create_task(self._watch_silence(child))
        was_killed = False
        try:
            await asyncio.wait(
                (reading, watching, child.exited), return_when=asyncio.FIRST_COMPLETED
            )
            if child.exited.done():
                was_killed = child.exited.result() == -signal.SIGKILL
                # Its last words may still be on their way.
                await asyncio.wait((reading,), timeout=LAST_WORDS_S)
            if watching.done():
                return watching.result()
            if reading.done():
                reading.result()
            return describe_exit(child.exited.result())
        except UnreadableReport:
            return "sent a report that cannot be read"
        finally:
            self._is_up, self._child = False, None
            reading.cancel()
            watching.cancel()
            await asyncio.gather(reading, watching, return_exceptions=True)
            await child.end()
            on_device = child.on_device()
            if not was_killed:  # kernels do not end a process so, people and a full memory do
                self._newly_left_out = self._leave_out(child)
            by_a_person = was_killed and memory_kills == count_memory_kills() is not None
            # Somebody who kills a busy engine says nothing about those who were on its device; and
            # whether it was them or the kernels, the next one tells.
            is_told = not by_a_person or len(on_device | self._ledger.sent()) == 1
            if is_told and self._newly_left_out is None:
                self._quarantine.blame(map(fingerprint_in, on_device))
            await child.close()

    async def _read(self, child: EngineProcess, loaded: "asyncio.Future[None]") -> None:
        while True:
            self._take(await child.receive(), loaded)

    def _take(self, report: Report, loaded: "asyncio.Future[None]") -> None:
        # How long loading takes says nothing about steps.
        self._watch.heard(time.monotonic(), is_busy=self._is_up and self._is_busy)
        self._has_abort_ahead = False
        match report:
            case Loading():
                self._on_loading(report.done, report.total)
            case StartFailed():
                raise StartupError(report.message)
            case Ready():
                self._info = report.info
            case StepOutput():
                self._take_step(report)
                if not loaded.done():
                    loaded.set_result(None)

    def _take_step(self, output: StepOutput) -> None:
        self._stats = output.stats
        for wire_id, delta in output.deltas.items():
            request = self._ledger.live.get(wire_id)
            if request is not None and delta.finish_reason is not None:
                self._quarantine.clear(request.fingerprint)
        self._ledger.dispatch(output)
        if not self._is_up:
            self._is_up = self._got_ready = True
            self._load_s = time.monotonic() - self._started_at
            for request in self._ledger.live.values():
                if request.awaits_tokens:
                    self._submit(request)
        elif output.deltas or output.failed:
            self._try_next_suspect()

    async def _watch_silence(self, child: EngineProcess) -> str:
        """Return when the process hangs, after it has written its stacks to the log."""
        while True:
            await asyncio.sleep(WATCH_S)
            self._watch.tick(WATCH_S, is_busy=self._is_busy)
            if self._is_up and self._watch.is_hung:
                await child.dump_stacks()
                return f"has been silent for {self._watch.silent_s:.1f} s"
            if not self._is_up and self._watch.silent_s > LOADING_TIMEOUT_S:
                await child.dump_stacks()
                return f"has been silent for {LOADING_TIMEOUT_S:.0f} s"

    def _sort_out_the_living(self) -> None:
        """After the end of a process: end who was answering, keep the others for the next.

        A request that has had no tokens starts again from the beginning, unseen by its client.
        """
        self._suspects.clear()
        self._suspect = None
        self._past, self._stats = self._stats.behind(self._past), EngineStats()
        for request in [r for r in self._ledger.live.values() if not r.stream.is_finished]:
            if request.has_output:
                request.stream.fail(refusals.restarting(self._load_s))
            else:
                request.is_sent = False
                self._submit(request)


@contextmanager
def _private_folder() -> Iterator[Path]:
    """Yield a folder that only this user can enter, with a name short enough for sockets in it.

    Raises `StartupError`.
    """
    try:
        folder = tempfile.mkdtemp(prefix="sightline-")
        if len(folder) + MAX_FILE_NAME > zmq.IPC_PATH_MAX_LEN:
            Path(folder).rmdir()
            folder = tempfile.mkdtemp(prefix="sightline-", dir="/tmp")
    except OSError as error:
        raise StartupError("The system gives no temporary folder for the engine.") from error
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
