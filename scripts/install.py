"""Install sightline into the checkout's .venv; called by ./run and ./test.

Called with `run`, `test` or, for the long tier, `browser`. Standard library only, any Python
>= 3.11. `.venv/.sightline-installing` exists while the work goes on: an environment that still has
it was interrupted, and is built anew.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UNFINISHED = VENV / ".sightline-installing"

TORCH = "torch>=2.12,<2.14"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PROBE_TIMEOUT_S = 5
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PIP_OPTIONS = ("--disable-pip-version-check", "--no-input")


class InstallError(Exception):
    """The message is one line for the person at the terminal."""


def main() -> int:
    what = sys.argv[1] if len(sys.argv) > 1 else "run"
    try:
        with only_one_at_a_time():
            say(f"installing into {VENV} (once; later starts are immediate)")
            ensure_venv()
            UNFINISHED.touch()
            ensure_torch()
            pip("the package and its dependencies", "--editable", str(ROOT))
            if what != "run":
                pip("what the tests need", *group("test"))
            if what == "browser":
                pip("what drives a browser", *group("browser"))
                ensure_browser()
            UNFINISHED.unlink()
    except InstallError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted; the next start begins again")
        return 130
    return 0


def say(text: str) -> None:
    print(f"sightline: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def only_one_at_a_time() -> Iterator[None]:
    """Hold a lock on the checkout, so that two first starts do not build one environment."""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def ensure_venv() -> None:
    """Leave a working environment with pip. One that works already is kept, whoever made it."""
    if UNFINISHED.exists() or not works(
        PYTHON, "-c", "import sys; assert sys.version_info >= (3, 11)"
    ):
        shutil.rmtree(VENV, ignore_errors=True)
        VENV.mkdir(exist_ok=True)
        UNFINISHED.touch()
        check("creating the virtual environment", [sys.executable, "-m", "venv", str(VENV)])
    elif not works(PYTHON, "-m", "pip", "--version"):
        check("installing pip", [str(PYTHON), "-m", "ensurepip"])


def ensure_torch() -> None:
    """Install the build of torch that fits the machine, unless there is one already.

    The default build for Linux holds gigabytes of CUDA libraries. PyTorch's own index has the CPU
    build; it is asked for torch alone, once, and only if it answers at all.
    """
    if works(PYTHON, "-c", "from importlib.metadata import version; version('torch')"):
        return
    if sys.platform == "linux" and not works("nvidia-smi") and is_reachable(TORCH_CPU_INDEX):
        try:
            pip(
                "torch for CPU",
                "--index-url", TORCH_CPU_INDEX, "--timeout", "8", "--retries", "0",
                TORCH,
            )  # fmt: skip
            return
        except InstallError:
            say("PyTorch's CPU index failed; using the default package index")
    pip("torch", TORCH)


def is_reachable(index: str) -> bool:
    """Say whether `index` answers within PROBE_TIMEOUT_S, name resolution included."""
    probe = "import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=4).read(1)"
    return works(sys.executable, "-c", probe, f"{index}/torch/", timeout_s=PROBE_TIMEOUT_S)


def ensure_browser() -> None:
    """Leave a Chromium for the pages: the system's, or the one that Playwright brings."""
    if not any(shutil.which(name) for name in BROWSERS):
        say("  a browser ...")
        check("downloading Chromium", [str(PYTHON), "-m", "playwright", "install", "chromium"])


def group(name: str) -> list[str]:
    """Read a list from pyproject.toml: pip knows dependency groups only since 25.1."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return list(project["dependency-groups"][name])


def works(*command: str | Path, timeout_s: float = 60) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def pip(what: str, *arguments: str) -> None:
    say(f"  {what} ...")
    check(what, [str(PYTHON), "-m", "pip", "install", *PIP_OPTIONS, *arguments])


def check(what: str, command: list[str]) -> None:
    """Run `command`; raise InstallError if it fails.

    A terminal sees its output as it comes, pip's progress bars above all: torch is 200 MB or more.
    Elsewhere only the output of a failure is shown.
    """
    if sys.stderr.isatty():
        done = subprocess.run(command, stdout=sys.stderr, check=False)
    else:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        if done.returncode != 0:
            sys.stderr.write(done.stdout.decode("utf-8", "replace"))
    if done.returncode != 0:
        raise InstallError(f"{what}: failed, see the lines above")


if __name__ == "__main__":
    sys.exit(main())
