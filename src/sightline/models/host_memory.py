"""How much memory this machine has, and how much of it is free. No torch: the command line asks."""

from pathlib import Path

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_CGROUP_USE = Path("/sys/fs/cgroup/memory.current")


def free_memory() -> int:
    """Return how many bytes of memory this process may still take; 0 where nobody can tell."""
    free = _from_meminfo("MemAvailable:")
    try:
        limit = int(_CGROUP_LIMIT.read_text()) - int(_CGROUP_USE.read_text())
    except (OSError, ValueError):  # no cgroup v2, or "max": no limit
        return free
    return max(0, min(free, limit))


def total_memory() -> int:
    """Return the bytes of memory of this machine or container; 0 where nobody can tell."""
    total = _from_meminfo("MemTotal:")
    try:
        return min(total, int(_CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):
        return total


def _from_meminfo(row: str) -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(row))
    except (OSError, ValueError, StopIteration):  # not Linux
        return 0
