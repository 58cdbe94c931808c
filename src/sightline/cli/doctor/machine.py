"""The facts that the checks judge, and how this machine is asked for them."""

import errno
import os
import shutil
import socket
import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sightline.cli.doctor.ports import PortOwner, owner_of
from sightline.settings import HUB_HOMES

HUB_TIMEOUT_S = 3.0
PROXY_TIMEOUT_S = 1.0
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    name: str
    capability: tuple[int, int]
    free: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuKernels:
    """See `models.cpu.state.KernelState`."""

    state: str
    kind: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Torch:
    """What torch says of itself, and the `seconds` of its import; `error` if that failed.

    `is_silent`: nobody knows, because importing it took too long.
    """

    version: str = ""
    seconds: float = 0.0
    cuda: str | None = None
    hip: str | None = None
    has_bfloat16: bool = True
    kernels: CpuKernels = CpuKernels(state="foreign")
    gpus: tuple[Gpu, ...] = ()
    architectures: tuple[str, ...] = ()
    cuda_error: str | None = None
    error: str | None = None
    is_silent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """NVIDIA's driver; `holders` are the programs that hold memory, as `name (pid): n MiB`."""

    version: str
    gpus: tuple[str, ...]
    holders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    free: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    folder: str
    free: int
    is_writable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAnswer:
    hub: str
    url: str
    seconds: float = 0.0
    problem: str | None = None
    is_offline: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """A question about a picture: what was answered, and which words belong into it."""

    expected: tuple[str, ...] = ()
    answer: str = ""
    seconds: float = 0.0
    problem: str | None = None


def python_version() -> tuple[tuple[int, int, int], int]:
    """Return the version, and the bits of an address."""
    return sys.version_info[:3], 8 * struct.calcsize("P")


def ask_driver() -> Driver | None:
    """Return NVIDIA's driver, None when there is none."""
    from sightline.models.device_memory import nvidia_smi

    rows = nvidia_smi("--query-gpu=driver_version,name", 2)
    if not rows:
        return None
    holders = nvidia_smi("--query-compute-apps=process_name,pid,used_memory", 3)
    return Driver(
        version=rows[0][0],
        gpus=tuple(name for _, name in rows),
        holders=tuple(f"{name} ({pid}): {used} MiB" for name, pid, used in holders),
    )


def ask_memory() -> Memory:
    from sightline.models.device_memory import cpu_memory

    found = cpu_memory()
    return Memory(free=0, total=0) if found is None else Memory(free=found.free, total=found.total)


def ask_disk(folder: Path) -> Disk:
    """Look at the disk that `folder` is on, or will be."""
    nearest = folder
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    # A link to nothing cannot be made a folder.
    there = nearest if nearest.exists() else nearest.parent
    return Disk(
        folder=str(folder),
        free=shutil.disk_usage(there).free,
        is_writable=nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK),
    )


def ask_hubs(endpoints: dict[str, str], *, is_offline: bool) -> list[HubAnswer]:
    """Knock at both at the same time."""
    urls = HUB_HOMES | endpoints
    if is_offline:
        return [HubAnswer(hub=hub, url=url, is_offline=True) for hub, url in urls.items()]
    with ThreadPoolExecutor(len(urls)) as pool:
        return list(pool.map(lambda pair: _knock(*pair), urls.items()))


def _knock(hub: str, url: str) -> HubAnswer:
    import httpx2

    began = time.monotonic()
    try:
        with httpx2.Client(timeout=HUB_TIMEOUT_S, follow_redirects=False) as client:
            status = client.head(url).status_code
    except (httpx2.HTTPError, httpx2.InvalidURL, ImportError, ValueError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return HubAnswer(hub=hub, url=url, problem=reason or type(error).__name__)
    problem = f"status {status}" if status >= 500 else None
    return HubAnswer(hub=hub, url=url, seconds=time.monotonic() - began, problem=problem)


def dead_proxies(proxies: dict[str, str]) -> list[str]:
    """Return the names of the variables whose proxy takes no connection."""
    servers = {name: url for name, url in proxies.items() if name.upper() != "NO_PROXY"}
    if not servers:
        return []
    with ThreadPoolExecutor(len(servers)) as pool:
        alive = list(pool.map(_takes_connections, servers.values()))
    return [name for name, is_alive in zip(servers, alive, strict=True) if not is_alive]


def _takes_connections(url: str) -> bool:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or (1080 if parts.scheme.startswith("socks") else 80)
        with socket.create_connection((parts.hostname or "", port), PROXY_TIMEOUT_S):
            return True
    except (OSError, ValueError):
        return False


def ask_port(host: str, port: int) -> PortOwner | None:
    """Return who listens there, or what else is in the way; None when the port is free."""
    if port == 0:
        return None
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.create_server(address, family=family):
            return None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return owner_of(port)
        is_forbidden = error.errno in (errno.EACCES, errno.EPERM)
        return PortOwner(hindrance="forbidden" if is_forbidden else "elsewhere")


def file_limit() -> int | None:
    """Return how many files this process may open, None for any number."""
    try:
        import resource
    except ImportError:  # pragma: no cover -- Windows has no such limit
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft
