"""How an engine process ended, and whether the kernel ended it for want of memory."""

import signal
from pathlib import Path

_COUNTERS = Path("/proc/vmstat")


def describe_exit(status: int) -> str:
    """Say how a process ended, from the status that `subprocess` gives."""
    if status >= 0:
        return f"ended with status {status}"
    if -status == signal.SIGKILL:
        return "was killed (signal 9; was there enough memory?)"
    return f"was killed by signal {-status}"


def count_memory_kills() -> int | None:
    """Return how many processes the kernel has killed for want of memory; None if it is silent.

    It does so with the signal that a person would use. All processes of the machine are counted,
    so a count that has not moved tells that it was a person.
    """
    try:
        for line in _COUNTERS.read_text().splitlines():
            name, _, number = line.partition(" ")
            if name == "oom_kill":
                return int(number)
    except (OSError, ValueError):
        pass
    return None
