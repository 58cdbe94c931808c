"""Starting the process of an engine; and starting it before it is known what it has to do.

To load torch takes a second. That goes on beside the front's own start, which then tells the
waiting process its arguments. Light to import: this is the first thing that a server does.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from sightline.core.wire import AHEAD

_STDERR = 2


def launch(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a process with the arguments of `engine.host`. Raises OSError."""
    return subprocess.Popen(
        # -P: a file called torch.py in the working directory must not be imported.
        [sys.executable, "-P", "-u", "-m", "sightline.engine.host", *arguments],
        stdin=subprocess.PIPE,
        stdout=_STDERR,  # what libraries print belongs to the log
        start_new_session=True,  # Ctrl-C is for the front, which drains first
    )


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
