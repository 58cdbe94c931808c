"""The checks: facts in, findings out. They ask nobody, so tests can make up any machine."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from sightline.cli.doctor.findings import Finding
from sightline.cli.doctor.machine import (
    Disk,
    Driver,
    HubAnswer,
    Memory,
    SelfTest,
    Torch,
)
from sightline.cli.doctor.ports import PortOwner
from sightline.core.errors import shorten

OLDEST_PYTHON = (3, 11)
OLDEST_TORCH = (2, 6)
# The oldest driver, by its first number, that runs programs of a CUDA release.
DRIVER_FOR_CUDA = {11: 450, 12: 525, 13: 580}
LEAST_MEMORY = 1_000_000_000
LEAST_FILES = 1024
GLM_4V_BYTES = 27_812_641_792
BFLOAT16_SINCE = (8, 0)
# The vectors of each kind of our own kernels.
VECTORS = {
    "avx2": "AVX2", "avx512": "AVX-512", "avx512vnni": "AVX-512", "avx512bf16": "AVX-512",
}  # fmt: skip
# What more a library uses of a processor.
PRODUCTS = {"avx512vnni": "_vnni", "avx512bf16": "_bf16"}
SELF_TEST_S = 2.0


def check_python(version: tuple[int, int, int], bits: int) -> Finding:
    shown = {"version": ".".join(map(str, version)), "bits": bits}
    is_fit = version[:2] >= OLDEST_PYTHON and bits == 64
    return Finding("python", "ok" if is_fit else "broken", f"python.{_ok(is_fit)}", shown)


def check_torch(torch: Torch) -> Finding:
    if torch.is_silent:
        return Finding("torch", "warning", "torch.silent", {"reason": torch.error})
    if torch.error is not None:
        return Finding("torch", "broken", "torch.missing", {"reason": torch.error})
    shown = {
        "version": torch.version,
        "build": _build(torch),
        "seconds": f"{torch.seconds:.1f}",
    }
    is_fit = _version(torch.version) >= OLDEST_TORCH
    return Finding("torch", "ok" if is_fit else "broken", f"torch.{_ok(is_fit)}", shown)


def check_driver(torch: Torch, driver: Driver | None) -> Finding:
    """Whether the driver and the build of torch belong together."""
    if driver is None or driver.problem is not None:
        if torch.gpus:  # an AMD card, or a container without nvidia-smi
            return Finding("driver", "ok", "driver.works", {"build": _build(torch)})
        if driver is None:
            return Finding("driver", "note", "driver.none")
        return Finding("driver", "warning", "driver.mute", {"problem": driver.problem})
    shown = {"driver": driver.version, "build": _build(torch), "gpus": ", ".join(driver.gpus)}
    if torch.error is not None:
        return Finding("driver", "note", "driver.untold", shown)
    if torch.cuda is None:
        code = "driver.rocm" if torch.hip else "driver.cpu_build"
        return Finding("driver", "warning", code, shown)
    needed = DRIVER_FOR_CUDA.get(_version(torch.cuda)[0], 0)
    if _version(driver.version)[0] < needed:
        return Finding("driver", "broken", "driver.old", shown | {"needed": needed})
    if not torch.gpus:
        reason = torch.cuda_error or "torch.cuda.is_available() is False"
        return Finding("driver", "broken", "driver.refused", shown | {"reason": reason})
    unfit = [gpu.name for gpu in torch.gpus if not _has_code_for(torch, gpu.capability)]
    if unfit:
        return Finding("driver", "broken", "driver.architecture", shown | {"name": unfit[0]})
    return Finding("driver", "ok", "driver.ok", shown)


def check_device(name: str, torch: Torch) -> list[Finding]:
    """Find nothing where the device `name` is there, as far as torch sees."""
    here = [f"cuda:{index}" for index in range(len(torch.gpus))]
    if name in ("auto", "cpu", *here) or (name == "cuda" and here):
        return []
    shown = {"name": shorten(name), "here": ", ".join(here) or "none"}
    return [Finding("device", "broken", "device.absent", shown)]


def check_bfloat16(torch: Torch) -> Finding:
    without = [gpu.name for gpu in torch.gpus if gpu.capability < BFLOAT16_SINCE]
    if without:
        return Finding("bfloat16", "note", "bfloat16.gpu_without", {"name": without[0]})
    if torch.gpus:
        return Finding("bfloat16", "ok", "bfloat16.gpu")
    if torch.has_bfloat16:
        return Finding("bfloat16", "ok", "bfloat16.cpu")
    return Finding("bfloat16", "note", "bfloat16.cpu_without")


def check_kernels(torch: Torch) -> Finding:
    """Whether our own kernels for processors are used; where they are not, torch's are."""
    found = torch.kernels
    shown = {"vectors": VECTORS.get(found.kind, found.kind), "reason": found.problem}
    if found.state == "ours":
        code = "kernels.ours" + PRODUCTS.get(found.kind, "")
        return Finding("kernels", "ok", code, shown)
    if found.state == "foreign":
        return Finding("kernels", "note", "kernels.foreign")
    code = "kernels.not_compiled" if found.state == "not_compiled" else "kernels.unusable"
    # Beside a GPU they have little to do.
    return Finding("kernels", "note" if torch.gpus else "warning", code, shown)


def check_memory(memory: Memory) -> Finding:
    shown = {"free": _gb(memory.free), "total": _gb(memory.total)}
    if memory.total == 0:
        return Finding("memory", "note", "memory.unknown")
    is_enough = memory.free >= LEAST_MEMORY
    return Finding("memory", "ok" if is_enough else "broken", f"memory.{_ok(is_enough)}", shown)


def check_gpu_memory(torch: Torch, driver: Driver | None) -> list[Finding]:
    findings = []
    for index, gpu in enumerate(torch.gpus):
        shown = {
            "index": index,
            "name": gpu.name,
            "free": _gb(gpu.free),
            "total": _gb(gpu.total),
            "holders": ", ".join(driver.holders) if driver and driver.holders else "?",
        }
        if gpu.free >= 0.8 * gpu.total:
            findings.append(Finding("gpu_memory", "ok", "gpu_memory.ok", shown))
        else:
            findings.append(Finding("gpu_memory", "warning", "gpu_memory.held", shown))
    return findings


def check_disk(disk: Disk) -> Finding:
    shown = {"folder": disk.folder, "free": _gb(disk.free), "needed": _gb(GLM_4V_BYTES)}
    if not disk.is_writable:
        return Finding("disk", "broken", "disk.locked", shown)
    if disk.free < GLM_4V_BYTES:
        return Finding("disk", "note", "disk.small", shown)
    return Finding("disk", "ok", "disk.ok", shown)


def check_hubs(answers: Sequence[HubAnswer]) -> list[Finding]:
    """Where none can be reached, none is recommended in the place of another."""
    is_cut_off = all(answer.problem is not None for answer in answers)
    return [check_hub(answer, is_cut_off=is_cut_off) for answer in answers]


def check_hub(answer: HubAnswer, *, is_cut_off: bool = False) -> Finding:
    """A hub that cannot be reached is no failure: what is here runs without it."""
    shown = {"hub": answer.hub, "url": answer.url, "reason": answer.problem}
    if answer.is_offline:
        return Finding("hub", "note", "hub.offline", shown)
    if answer.obstacle is not None:
        return Finding("hub", "warning", *_obstacle(answer, shown))
    if answer.problem is not None:
        end = "cut_off" if is_cut_off else "unreachable"
        return Finding("hub", "note", f"hub.{answer.hub}_{end}", shown)
    return Finding("hub", "ok", "hub.ok", shown | {"ms": round(1000 * answer.seconds)})


def _obstacle(answer: HubAnswer, shown: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the code of what answers in the place of a hub, and what is to be said of it."""
    host = proxy_host(answer.url) or answer.url
    shown = shown | {"host": host, "mirror": answer.mirror or "", "proxy": answer.proxy or ""}
    scheme, _, rest = answer.proxy_url.rpartition("://")
    shown |= {"proxy_url": answer.proxy_url, "rest": rest, "scheme": scheme or "http"}
    if answer.obstacle == "certificate":
        return "hub.certificate", shown
    if answer.obstacle == "proxy":
        return "hub.proxy_login" if answer.problem == "407" else "hub.proxy_refuses", shown
    if answer.mirror is not None:
        return "hub.page_mirror", shown
    return "hub.page_proxy" if answer.proxy is not None else "hub.page", shown


def check_proxies(proxies: Mapping[str, str], dead: Sequence[str]) -> list[Finding]:
    """`proxies` are the variables of that kind, `dead` the names of those that do not answer."""
    servers = {name: value for name, value in proxies.items() if name.upper() != "NO_PROXY"}
    if not servers:
        return [Finding("proxies", "ok", "proxies.none")]
    findings = []
    for name, value in servers.items():
        host = proxy_host(value)
        shown = {"name": name, "host": host}
        if host is None:
            findings.append(Finding("proxies", "warning", "proxies.malformed", {"name": name}))
        elif name in dead:
            findings.append(Finding("proxies", "warning", "proxies.dead", shown))
        else:
            findings.append(Finding("proxies", "ok", "proxies.ok", shown))
    past = proxies.get("NO_PROXY", proxies.get("no_proxy", ""))
    spared = {host.strip() for host in past.split(",")}
    is_plain = any(name.upper() in ("HTTP_PROXY", "ALL_PROXY") for name in servers)
    if is_plain and not spared & {"*", "127.0.0.1", "localhost", "127.0.0.0/8"}:
        findings.append(Finding("proxies", "warning", "proxies.local"))
    return findings


def check_port(host: str, port: int, owner: PortOwner | None) -> Finding:
    shown = {"host": host, "port": port, "other": port + 1 if port < 65535 else port - 1}
    if owner is None:
        return Finding("port", "ok", "port.ok", shown)
    if owner.hindrance is not None:
        code = "port.forbidden" if owner.hindrance == "forbidden" else "port.elsewhere"
        return Finding("port", "broken", code, shown)
    shown |= {"owner": owner.command or "?", "pid": owner.pid or 0}
    if owner.is_sightline:
        return Finding("port", "ok", "port.ours", shown)
    return Finding("port", "broken", "port.taken" if owner.pid else "port.taken_unknown", shown)


def check_files(soft: int | None) -> Finding:
    if soft is None:
        return Finding("files", "ok", "files.unlimited")
    shown = {"limit": soft, "needed": LEAST_FILES}
    is_enough = soft >= LEAST_FILES
    return Finding("files", "ok" if is_enough else "warning", f"files.{_ok(is_enough)}", shown)


def check_threads(num_cpus: int, chosen: Mapping[str, str]) -> Finding:
    for name, value in chosen.items():
        # OpenMP takes a list, one number for each level of nesting.
        first = value.split(",")[0].strip()
        shown = {"name": name, "value": value, "cpus": num_cpus}
        if not first.isdigit() or int(first) == 0:
            return Finding("threads", "warning", "threads.malformed", shown)
        if int(first) > num_cpus:
            return Finding("threads", "warning", "threads.many", shown)
        if int(first) < num_cpus:
            return Finding("threads", "note", "threads.few", shown)
    return Finding("threads", "ok", "threads.ok", {"cpus": num_cpus})


def check_self_test(test: SelfTest) -> Finding:
    shown = {"seconds": f"{test.seconds:.1f}", "answer": test.answer, "reason": test.problem}
    if test.problem is not None:
        return Finding("self_test", "broken", "self_test.failed", shown)
    if not all(word in test.answer.lower() for word in test.expected):
        return Finding("self_test", "broken", "self_test.wrong", shown)
    return Finding("self_test", "ok", "self_test.ok", shown)


def proxy_host(url: str) -> str | None:
    """Return a proxy's address without the name and password that may stand in it.

    None for what is no address.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = f":{parts.port}" if parts.port else ""
        return parts.hostname and parts.hostname + port
    except ValueError:
        return None


def _ok(is_fit: bool) -> str:
    return "ok" if is_fit else "unfit"


def _build(torch: Torch) -> str:
    return f"CUDA {torch.cuda}" if torch.cuda else f"ROCm {torch.hip}" if torch.hip else "CPU"


def _has_code_for(torch: Torch, capability: tuple[int, int]) -> bool:
    """Whether the build has machine code for a card, or code that the driver can translate."""
    for architecture in torch.architectures:
        kind, _, number = architecture.partition("_")
        digits = "".join(c for c in number if c.isdigit())
        if len(digits) < 2:
            continue
        major, minor = int(digits[:-1]), int(digits[-1])
        if kind == "sm" and major == capability[0] and minor <= capability[1]:
            return True
        if kind == "compute" and (major, minor) <= capability:
            return True
    return not torch.architectures


def _version(text: str) -> tuple[int, ...]:
    numbers = []
    for part in text.split("+")[0].split(".")[:2]:
        digits = "".join(c for c in part if c.isdigit())
        numbers.append(int(digits) if digits else 0)
    return tuple(numbers)


def _gb(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.1f}"
