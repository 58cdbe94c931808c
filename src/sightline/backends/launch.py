"""Starting the process of an engine; and starting it before it is known what it has to do.

To load torch takes a second. That goes on beside the front's own start, which then tells the
waiting process its arguments. Light to import: this is the first thing that a server does.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from sightline.core.wire import AHEAD

_STDERR = 2
# Rows of a picture are tens of megabytes that come and go with every layer. To have them from the
# system each time, page by page, takes up to a tenth of the encoding: glibc is to keep what is
# freed, and to ask for huge pages.
_MALLOC = {
    "glibc.malloc.hugetlb": 1,
    "glibc.malloc.mmap_threshold": 32 << 20,  # the most that it takes
    "glibc.malloc.trim_threshold": 256 << 20,
}


def launch(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a process with the arguments of `engine.host`. Raises OSError."""
    environment = dict(os.environ)  # noqa: TID251 - the child's
    environment["GLIBC_TUNABLES"] = tunables(environment.get("GLIBC_TUNABLES", ""))
    return subprocess.Popen(
        # -P: a file called torch.py in the working directory must not be imported.
        [sys.executable, "-P", "-u", "-m", "sightline.engine.host", *arguments],
        stdin=subprocess.PIPE,
        stdout=_STDERR,  # what libraries print belongs to the log
        start_new_session=True,  # Ctrl-C is for the front, which drains first
        env=environment,
        cwd=_working_directory(),
    )


def _working_directory() -> str | None:
    """Return the root where the folder we work in was deleted: without one, MKL does not load."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return os.sep
    return None


def tunables(asked: str) -> str:
    """Return what the environment asks of glibc, and what it leaves to us."""
    ours = (f"{name}={value}" for name, value in _MALLOC.items() if f"{name}=" not in asked)
    return ":".join(filter(None, (asked, *ours)))


def launch_ahead(num_threads: int | None) -> subprocess.Popen[bytes]:
    """Start a process that loads torch and waits; it ends with this one. Raises OSError."""
    return launch([AHEAD, str(num_threads or 0)])


def tell(waiting: subprocess.Popen[bytes], arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """Let a waiting process become an engine; start another one if it is gone. Raises OSError."""
    assert waiting.stdin is not None
    try:
        waiting.stdin.write(json.dumps(arguments).encode() + b"\n")
        waiting.stdin.flush()
    except BrokenPipeError:
        with suppress(BrokenPipeError):  # it would still write
            waiting.stdin.close()
        waiting.wait()
        return launch(arguments)
    return waiting
