"""A benchmark in a process of its own, and again without the kernels that the process died of.

As the server does it, see ADR 25: what is on trial stands in a file.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

# A compiler takes a second or two for a kernel, and no trial has more than a few dozen.
HANG_S = 240.0
LOOK_S = 1.0


def attempt(script: str, arguments: Sequence[str]) -> int:
    """Run `script` with `--trials FILE` until it needs no more kernels left out; return its status.

    `--without-kernels NAME` is added for each that it was trying when it ended, or hung.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and let the process go with us
    left_out: list[str] = []
    with TemporaryDirectory() as folder:
        file = Path(folder, "trial")
        while True:
            file.write_text("")
            command = [sys.executable, script, *arguments, "--trials", str(file)]
            command += [f"--without-kernels={name}" for name in left_out]
            process = subprocess.Popen(command)
            try:
                status = _wait(process, file)
            finally:
                process.kill()
                process.wait()
            name = file.read_text()
            if status == 0 or not name or name in left_out:
                return status
            print(f"ended with {status} on trying {name} kernels: again without", file=sys.stderr)
            left_out.append(name)


def _wait(process: subprocess.Popen[bytes], file: Path) -> int:
    while True:
        try:
            return process.wait(LOOK_S)
        except subprocess.TimeoutExpired:
            if file.read_text() and time.time() - file.stat().st_mtime > HANG_S:
                process.kill()
