"""Fixtures for every room: the command line as a real process, and a server to ask."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

# Before anything loads torch: beside a busy neighbour its waiting threads would take all the time.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A shell that runs the tests in the background makes them, and all they start, deaf to Ctrl-C.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from sightline.assembly import ThreadServer, server_in_thread
from sightline.settings import resolve

# Where there is a GPU, only tests that are about it find it: what others compare is a CPU's.
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""} if Path("/dev/nvidiactl").exists() else {}


def pytest_configure(config: pytest.Config) -> None:
    chosen = config.getoption("markexpr")
    if "gpu" not in chosen or "not gpu" in chosen or not NO_GPU:
        os.environ.update(NO_GPU)
        # Triton looks once, when the first module imports it: kernels are interpreted.
        os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long tier out unless `-m` asks for it; the command line is a live process."""
    for item in items:
        if "sightline" in getattr(item, "fixturenames", ()):
            item.add_marker("live")
    if "long" not in config.getoption("markexpr"):
        long = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)


@dataclass(frozen=True, slots=True)
class Outcome:
    status: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Runs `sightline` in a folder of its own, with nothing of this machine's environment."""

    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        own = {"HOME": str(self.folder), "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
        return kept | NO_GPU | own

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "sightline", *arguments]

    def __call__(self, *arguments: str, stdin: bytes = b"", **environ: str) -> Outcome:
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environ | environ,
            input=stdin,
            capture_output=True,
            timeout=100,
            check=False,
        )
        return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """A test that loses the GPU must not fail those behind it: they need another process."""
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    from sightline.models.device import is_lost

    if torch.cuda.is_initialized() and is_lost(torch.device("cuda")):
        if hasattr(item.config, "workerinput"):
            os._exit(1)  # pytest-xdist starts one
        pytest.exit("The GPU is lost to this process; with -n 1 another one goes on.", 1)


@pytest.fixture(autouse=True)
def no_keys_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests must not find the keys of the person who runs them."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def sightline(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture(scope="session")
def fake_server() -> Iterator[ThreadServer]:
    """A real server with the fake engine, which repeats the last question. It wants its key."""
    settings = resolve({"engine": "fake"}, environ={})
    with server_in_thread(settings) as server:
        yield server


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with GLM-4V's real wiring, random weights and the fake engine's vocabulary."""
    from tiny_model import write_tiny_model

    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
