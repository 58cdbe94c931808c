"""The facts that the checks judge, and how this machine is asked for them."""

import errno
import json
import os
import re
import shutil
import socket
import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from sightline.cli.doctor.ports import PortOwner, owner_of
from sightline.core.errors import shorten
from sightline.settings import (
    HUB_HOMES,
    mirror_variable,
    proxy_variable,
    variables,
    without_login,
)

if TYPE_CHECKING:
    import httpx2

HUB_TIMEOUT_S = 3.0
# A list of files is smaller.
MOST_BYTES = 4 * 1024 * 1024
_LISTING = {
    "huggingface": "/api/models/zai-org/glm-4v-9b",
    "modelscope": "/api/v1/models/ZhipuAI/glm-4v-9b/repo/files?Revision=master",
}
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
    """NVIDIA's driver; `holders` are the programs that hold memory, as `name (pid): n MiB`.

    `problem` is what nvidia-smi said instead of all that.
    """

    version: str = ""
    gpus: tuple[str, ...] = ()
    holders: tuple[str, ...] = ()
    problem: str | None = None


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
    """How a hub answered, or what was in the way: `problem`, None if nothing was.

    `obstacle` says what else answered in its place, the `problem` is what that said. `mirror` and
    `proxy` are the names of the variables that decide how the hub is reached, where one does;
    `proxy_url` is without a password.
    """

    hub: str
    url: str
    seconds: float = 0.0
    problem: str | None = None
    obstacle: Literal["page", "proxy", "certificate"] | None = None
    is_offline: bool = False
    mirror: str | None = None
    proxy: str | None = None
    proxy_url: str = ""


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
    from sightline.models.device_memory import nvidia_smi, smi_problem

    rows = nvidia_smi("--query-gpu=driver_version,name", 2)
    if not rows:
        problem = smi_problem()
        return None if problem is None else Driver(problem=problem)
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
        shown = {hub: without_login(url) for hub, url in urls.items()}
        return [HubAnswer(hub=hub, url=url, is_offline=True) for hub, url in shown.items()]
    with ThreadPoolExecutor(len(urls)) as pool:
        return list(pool.map(lambda pair: _knock(*pair), urls.items()))


def _knock(hub: str, url: str) -> HubAnswer:
    """Ask for what `pull` asks for first: only a hub can answer that."""
    import httpx2

    proxy = proxy_variable(url)
    proxy_url = without_login(variables(proxy)[proxy]) if proxy else ""
    shown = without_login(url)
    answer = HubAnswer(
        hub=hub, url=shown, mirror=mirror_variable(hub), proxy=proxy, proxy_url=proxy_url
    )
    began = time.monotonic()
    try:
        with (
            httpx2.Client(timeout=HUB_TIMEOUT_S, follow_redirects=True) as client,
            client.stream("GET", url + _LISTING[hub]) as response,
        ):
            content = b""
            for piece in response.iter_bytes():
                content += piece
                if len(content) > MOST_BYTES or time.monotonic() - began > 2 * HUB_TIMEOUT_S:
                    break
    except (httpx2.HTTPError, httpx2.InvalidURL, ImportError, ValueError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = re.sub(r"^\[Errno -?\d+\] ", "", reason)
        if isinstance(error, httpx2.ProxyError) and re.match(r"[45]\d\d\b", reason):
            return replace(answer, problem=reason[:3], obstacle="proxy")
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            return replace(answer, problem=reason, obstacle="certificate")
        return replace(answer, problem=reason or type(error).__name__)
    status = response.status_code
    if status == 407:
        return replace(answer, problem="407", obstacle="proxy")
    if _is_of_hub(hub, response, content):
        return replace(answer, seconds=time.monotonic() - began)
    if status >= 500 or status == 429:
        return replace(answer, problem=f"HTTP {status}")
    seen = f"HTTP {status}, {_described(content)}"
    if response.url.host != httpx2.URL(url).host:
        seen += f", {shorten(f'{response.url.scheme}://{response.url.host}')}"
    return replace(answer, problem=seen, obstacle="page")


def _is_of_hub(hub: str, response: "httpx2.Response", content: bytes) -> bool:
    """Whether only a hub says this: what it has of a model, or why it does not tell."""
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        return False
    if not isinstance(told, dict):
        return False
    if hub == "modelscope":
        return "Code" in told and (response.status_code != 200 or "Data" in told)
    return "siblings" in told or "X-Error-Code" in response.headers


def _described(content: bytes) -> str:
    """Return a page's title, or how an answer begins."""
    text = content[:65536].decode("utf-8", "replace")
    title = re.search(r"<title[^>]*>(.*?)</title", text, re.IGNORECASE | re.DOTALL)
    words = " ".join(unescape(title[1] if title else text[:200]).split())
    return f'"{shorten(words)}"'


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
