"""The engine process: `python -m sightline.engine.host --commands ENDPOINT --reports ENDPOINT ...`.

With `--ahead THREADS` it loads torch first, and gets its arguments as a line of JSON when they are
known.

The main thread owns the device: it loads the model and runs the loop. One thread takes commands,
one reports the pulse. The process lives as long as the front: it ends when its standard input
does, and on Linux the kernel kills it with its parent. Signals that end a program are left to the
front, which drains before it stops its engine.
"""

import argparse
import ctypes
import faulthandler
import gc
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec
import zmq

from sightline.core.engine_options import EngineOptions, KernelName
from sightline.core.errors import StartupError
from sightline.core.wire import (
    AHEAD,
    COMMANDS,
    ON_TRIAL,
    REPORTS,
    Abort,
    Command,
    Generate,
    Loading,
    Ready,
    Report,
    Shutdown,
    StartFailed,
    StepOutput,
)
from sightline.engine.cpus import count_cpus

if TYPE_CHECKING:
    from sightline.engine.loop import EngineLoop

logger = logging.getLogger("sightline.engine")

HEARTBEAT_S = 0.5
PROGRESS_S = 0.1
SPINS_BETWEEN_LAYERS = 20000  # a quarter of a millisecond: what lies between two products
_STDIN = 0
_PR_SET_PDEATHSIG = 1


def main(argv: Sequence[str] | None = None) -> int:
    if argv is None:
        argv = sys.argv[1:]
    # What is loaded now stays: to look through it for garbage takes a tenth of a start.
    gc.disable()
    if argv[:1] == [AHEAD]:
        argv = _load_ahead(int(argv[1]) or None)
        if not argv:
            return 0
    parser = argparse.ArgumentParser(prog="python -m sightline.engine.host")
    parser.add_argument("--commands", required=True)
    parser.add_argument("--reports", required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--options", required=True)
    arguments = parser.parse_args(argv)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # prompts do not belong into files
    _leave_signals_to_the_front()
    _die_with_parent(arguments.parent)
    logging.basicConfig(level=logging.INFO, format="engine: %(levelname)s: %(message)s")
    options = msgspec.json.decode(arguments.options, type=EngineOptions)
    prepare_threads(options.num_threads)
    number_gpus_by_slot()
    context = zmq.Context()
    reports = _Reports(context, arguments.reports)
    try:
        return _serve(context, arguments.commands, reports, _Journal(arguments.journal), options)
    finally:
        reports.close()
        context.term()


def _load_ahead(num_threads: int | None) -> list[str]:
    """Load torch, wait for a line with the arguments and return them; none if it does not come."""
    _be_killed_with_parent()  # the end of the input is only seen when torch is there
    prepare_threads(num_threads)
    number_gpus_by_slot()
    with suppress(Exception):  # who loads the model says what is wrong with it
        import torch  # noqa: F401
    line = sys.stdin.readline()
    arguments: list[str] = msgspec.json.decode(line) if line else []
    return arguments


def _serve(
    context: "zmq.Context[zmq.Socket[bytes]]",
    endpoint: str,
    reports: "_Reports",
    journal: "_Journal",
    options: EngineOptions,
) -> int:
    try:
        loop = _build(options, reports, journal)
    except StartupError as error:
        reports.send(StartFailed(message=error.message))
        return 1
    gc.freeze()
    gc.enable()
    commands = threading.Thread(target=_take_commands, args=(context, endpoint, loop), daemon=True)
    heartbeat = threading.Thread(target=_report_pulse, args=(loop, reports), daemon=True)
    reports.measure_memory()
    reports.send(Ready(info=loop.info))
    commands.start()
    heartbeat.start()
    loop.run(reports.send, journal.note)
    return 0


def _build(options: EngineOptions, reports: "_Reports", journal: "_Journal") -> "EngineLoop":
    """Load the model. Whatever goes wrong becomes a `StartupError` of one line."""

    def note_trial(name: KernelName | None) -> None:
        journal.note_trial(name)
        reports.repeat_progress()  # a compiler takes its time, and every trial has as much

    try:
        # Not at the top of the file: the environment must be prepared before torch is loaded.
        from sightline.engine.build import build_engine

        return build_engine(options, reports.send_progress, note_trial)
    except StartupError:
        raise
    except MemoryError as error:
        raise StartupError("There is not enough memory to load the model.") from error
    except Exception as error:
        logger.exception("the model could not be loaded")
        raise StartupError(
            f"The model could not be loaded ({type(error).__name__}; details are in the log)."
        ) from error


def _take_commands(
    context: "zmq.Context[zmq.Socket[bytes]]", endpoint: str, loop: "EngineLoop"
) -> None:
    decoders = {kind: msgspec.msgpack.Decoder(message) for kind, message in COMMANDS.items()}
    with context.socket(zmq.PULL) as socket:
        socket.set_hwm(0)
        socket.connect(endpoint)
        while True:
            try:
                kind, body, *pixels = socket.recv_multipart(copy=False)
                command: Command = decoders[kind.bytes].decode(body.buffer)
            except zmq.ContextTerminated:
                return
            except (msgspec.DecodeError, KeyError, ValueError):
                logger.error("a message from the front cannot be read; it is ignored")
                continue
            match command:
                case Generate():
                    loop.submit(command, [frame.buffer for frame in pixels])
                case Abort():
                    loop.abort(command.request_id)
                case Shutdown():
                    loop.stop()
                    return


def _report_pulse(loop: "EngineLoop", reports: "_Reports") -> None:
    """Tell the front that the engine is alive while no step ends, as long as it really is."""
    while True:
        pulse, num_sent = loop.pulse.count, reports.num_sent
        time.sleep(HEARTBEAT_S)
        reports.measure_memory()
        if loop.pulse.count != pulse and reports.num_sent == num_sent:
            reports.send(StepOutput(stats=loop.stats))


class _Reports:
    """Sends reports to the front, from any thread."""

    _KINDS = {message: kind for kind, message in REPORTS.items()}  # noqa: RUF012

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", endpoint: str) -> None:
        self._socket = context.socket(zmq.PUSH)
        self._socket.set_hwm(0)  # the front reads all the time; a full queue must not stop a step
        self._socket.connect(endpoint)
        self._lock = threading.Lock()
        self._encoder = msgspec.msgpack.Encoder()
        self._rss_bytes = _rss_bytes()
        self._progress_at = float("-inf")
        self._progress: Loading | None = None
        self.num_sent = 0

    def send(self, report: Report) -> None:
        if isinstance(report, StepOutput):
            stats = replace(report.stats, pid=os.getpid(), rss_bytes=self._rss_bytes)
            report = replace(report, stats=stats)
        with self._lock:
            frames = (self._KINDS[type(report)], self._encoder.encode(report))
            if not self._socket.closed:
                self._socket.send_multipart(frames)
            self.num_sent += 1

    def send_progress(self, done: int, total: int) -> None:
        """Send a `Loading`, unless one was sent a moment ago and this is not the last."""
        now = time.monotonic()
        self._progress = Loading(done=done, total=total)
        if now - self._progress_at >= PROGRESS_S or done == total:
            self._progress_at = now
            self.send(self._progress)

    def repeat_progress(self) -> None:
        """Send the last `Loading` again, as a sign of life."""
        if self._progress is not None:
            self.send(self._progress)

    def measure_memory(self) -> None:
        self._rss_bytes = _rss_bytes()

    def close(self) -> None:
        with self._lock:
            self._socket.close(linger=1000)


class _Journal:
    """A file that says who, or what, is on the device, for the front to read if this process dies.

    A message would not do: what is still in a queue dies with the process, and this is wanted
    exactly when it dies at once. A write to a file is the kernel's when it returns.
    """

    def __init__(self, file: Path) -> None:
        self._fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def note(self, running: Sequence[str]) -> None:
        """Replace the content: a line with the number of ids, then a line for each."""
        self._write(str(len(running)), *running)

    def note_trial(self, name: KernelName | None) -> None:
        """Say that a start has come to try such kernels; None: that it has come through."""
        self._write("0" if name is None else f"{ON_TRIAL}{name}")

    def _write(self, *lines: str) -> None:
        os.pwrite(self._fd, "\n".join((*lines, "")).encode(), 0)


def prepare_threads(num_threads: int | None) -> None:
    """Set up OpenMP, which reads nothing but the environment, and reads it when torch is loaded.

    Threads that spin for long (the default) slow a decode step 30 to 170 times as soon as another
    program keeps a core busy; threads that sleep at once are woken for every layer, which costs up
    to half a step of a small model. Between two layers they may spin.
    """
    if "OMP_WAIT_POLICY" not in os.environ:  # noqa: TID251
        os.environ["OMP_WAIT_POLICY"] = "passive"  # noqa: TID251
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS_BETWEEN_LAYERS))  # noqa: TID251
    os.environ.setdefault("OMP_NUM_THREADS", str(num_threads or count_cpus()))  # noqa: TID251


def number_gpus_by_slot() -> None:
    """Let `cuda:1` be what nvidia-smi, and so `sightline fit`, calls GPU 1.

    CUDA itself puts the fastest card first. It reads the environment when torch first asks it.
    """
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # noqa: TID251


def _leave_signals_to_the_front() -> None:
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)


def _be_killed_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _die_with_parent(parent: int) -> None:
    _be_killed_with_parent()
    if os.getppid() != parent:  # it died before the kernel was asked to tell
        os._exit(1)
    threading.Thread(target=_exit_at_end_of_input, daemon=True).start()


def _exit_at_end_of_input() -> None:
    while os.read(_STDIN, 1024):
        pass
    os._exit(0)


def _rss_bytes() -> int:
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def run_to_the_end(argv: Sequence[str] | None = None) -> NoReturn:
    exit_status = main(argv)
    logging.shutdown()
    # Taking torch apart takes a second and gives nothing back that the kernel does not.
    os._exit(exit_status)


if __name__ == "__main__":
    run_to_the_end()
