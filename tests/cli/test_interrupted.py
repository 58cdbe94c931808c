"""Ctrl-C while the program itself is still being imported, and before a command takes it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Takes the place of the first library that the commands import.
INTERRUPTED = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(0.2)\n"


@pytest.fixture
def interrupted(sightline, tmp_path: Path):
    (tmp_path / "typer.py").write_text(INTERRUPTED)

    def run(**how: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            sightline.command("--version"),
            env=sightline.environ | {"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            timeout=100,
            check=False,
            **how,
        )

    return run


def test_it_ends_without_a_traceback(interrupted):
    done = interrupted()
    assert done.returncode == -signal.SIGINT
    assert done.stderr == b""


def test_nor_while_the_commands_are_built():
    program = (
        "import sightline.cli.main, sightline.__main__\n"
        "def interrupt(*_): raise KeyboardInterrupt\n"
        "sightline.cli.main.build = interrupt\n"
        "sightline.__main__.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (130, b"")


def test_where_it_is_ignored_it_stays_so(interrupted):
    """As under nohup, and for what a shell starts in the background."""
    done = interrupted(preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert done.returncode == 1
    assert b"typer" in done.stderr
    assert b"KeyboardInterrupt" not in done.stderr
