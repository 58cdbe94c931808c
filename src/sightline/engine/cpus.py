"""How many CPU cores this process may really use."""

import math
import os
from pathlib import Path

_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def count_cpus() -> int:
    """Return the cores of the affinity mask, or fewer where a container has a smaller share."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    try:
        quota, period = _CGROUP_QUOTA.read_text().split()
        share = math.ceil(int(quota) / int(period))
    except (OSError, ValueError):  # not Linux, no cgroup v2, or "max": no quota
        return cores
    return max(1, min(cores, share))
