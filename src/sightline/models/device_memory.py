"""What memory a device has, what of it is free, and who holds it. No torch.

A CPU's memory is told by Linux (/proc, and the control groups that bound this process); a GPU's
by nvidia-smi, which comes with the driver. Where nobody tells, there is no guess.
"""

import csv
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sightline.core.errors import shorten

MIB = 1024 * 1024
SMI_TIMEOUT_S = 10.0
NUM_HOLDERS = 5
# What a process holds below this is not worth a line.
LEAST_HELD = 64 * MIB
# Where it lies on machines that do not put it on the path: managed Kubernetes, WSL.
SMI_FOLDERS = ("/usr/local/nvidia/bin", "/opt/nvidia/bin", "/usr/lib/wsl/lib")
DRIVER_CARDS = (Path("/proc/driver/nvidia/gpus"), Path("/dev/nvidia0"), Path("/dev/dxg"))
# Larger than any machine: how old control groups write "no limit".
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, and the memory that goes free when it ends."""

    pid: int
    name: str
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMemory:
    """`device` is as torch calls it. `free` is what a new process may take.

    `limit` is said where something smaller than the machine bounds it (a control group).
    `keeps_halves` says of a CPU that fp32 rows can meet weights of two bytes there. `capability` is
    a GPU's compute capability.
    """

    device: str
    name: str
    total: int
    free: int
    limit: str = ""
    has_bfloat16: bool = True
    keeps_halves: bool = False
    capability: tuple[int, int] | None = None
    holders: tuple[Holder, ...] = field(default=())

    @property
    def is_gpu(self) -> bool:
        return self.device.startswith("cuda")


Run = Callable[[Sequence[str]], str | None]
"""Runs a program and returns its output; None if it cannot be run or fails."""


def cpu_memory(root: Path = Path("/")) -> DeviceMemory | None:
    """Return the memory of the CPU, None where nobody tells. `root` is where /proc lies."""
    total, available = _meminfo(root)
    if available is None:
        return None
    free, limit, bound = available, "", total
    for left, size, path in _group_limits(root):
        if left < free:
            free, limit, bound = left, path, min(size, total)
    return DeviceMemory(
        device="cpu",
        name=cpu_name(root),
        total=bound,
        free=max(free, 0),
        limit=limit,
        has_bfloat16=cpu_has_bfloat16(root),
        keeps_halves=cpu_keeps_halves(root),
        holders=_biggest_processes(root),
    )


def free_cpu_memory(root: Path = Path("/")) -> int:
    """Return how many bytes this process may still take; 0 where nobody can tell."""
    _, available = _meminfo(root)
    if available is None:
        return 0
    return max(0, min([available, *(left for left, _, _ in _group_limits(root))]))


def process_bytes(root: Path = Path("/")) -> int:
    """Return what this process holds that goes free when it ends; 0 where nobody can tell."""
    return _own_bytes(_text(root / "proc/self/status"))


def cpu_name(root: Path = Path("/")) -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _text(root / "proc/cpuinfo"), re.MULTILINE)
    return found[1].strip() if found else os.uname().machine


def cpu_has_bfloat16(root: Path = Path("/")) -> bool:
    """Whether the processor multiplies bfloat16 itself; assumed where nobody can tell."""
    flags = cpu_flags(root)
    return not flags or not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)


def cpu_keeps_halves(root: Path = Path("/")) -> bool:
    """Whether the processor is one for which `packed_weight.HalfWeight` has a kernel."""
    return {"avx2", "f16c"} <= cpu_flags(root)


def cpu_flags(root: Path = Path("/")) -> frozenset[str]:
    """Return what Linux says an x86 processor can do; empty where nobody tells."""
    flags = re.search(r"^flags\s*:\s*(.+)$", _text(root / "proc/cpuinfo"), re.MULTILINE)
    return frozenset(flags[1].split()) if flags else frozenset()


def gpus(visible: str | None = None, run: Run | None = None) -> list[DeviceMemory]:
    """Return the GPUs in the order in which torch numbers them; none without nvidia-smi.

    `visible` is CUDA_VISIBLE_DEVICES: numbers or beginnings of UUIDs; the first that does not
    exist ends the list, as CUDA has it.
    """
    keys = "index,uuid,name,memory.total,memory.free,compute_cap"
    rows = nvidia_smi(f"--query-gpu={keys}", 6, run)
    holders: dict[str, list[Holder]] = {}
    held_by = "--query-compute-apps=gpu_uuid,pid,name,used_memory"
    # One that does not answer is not waited for again.
    for uuid, pid, name, used in nvidia_smi(held_by, 4, run) if rows else ():
        if pid.isdigit() and used.isdigit():
            held = Holder(int(pid), Path(name).name, int(used) * MIB)
            holders.setdefault(uuid, []).append(held)
    found: dict[str, DeviceMemory] = {}
    for index, uuid, name, total, free, capability in rows:
        if not total.isdigit() or not free.isdigit():
            continue
        cc = re.fullmatch(r"(\d+)\.(\d+)", capability)
        largest = sorted(holders.get(uuid, ()), key=lambda holder: -holder.num_bytes)
        found[uuid] = DeviceMemory(
            device=f"cuda:{index}",
            name=name,
            total=int(total) * MIB,
            free=int(free) * MIB,
            # Ampere is the first that computes in it.
            has_bfloat16=cc is None or int(cc[1]) >= 8,
            capability=None if cc is None else (int(cc[1]), int(cc[2])),
            holders=tuple(largest[:NUM_HOLDERS]),
        )
    if visible is None:
        return list(found.values())
    chosen: list[DeviceMemory] = []
    for wanted in (part.strip() for part in visible.split(",")):
        match = next(
            (
                gpu
                for uuid, gpu in found.items()
                if gpu.device == f"cuda:{wanted}" or (wanted and uuid.startswith(wanted))
            ),
            None,
        )
        if match is None:
            break
        chosen.append(replace(match, device=f"cuda:{len(chosen)}"))
    return chosen


def has_nvidia_card() -> bool:
    """Whether the system shows an NVIDIA card, whatever torch and nvidia-smi think."""
    return any(path.exists() for path in DRIVER_CARDS)


def are_untold(visible: str | None, run: Run | None = None) -> bool:
    """Whether torch may see GPUs although `gpus` finds none.

    nvidia-smi may be missing, as in some containers, or the GPUs are parts of a card, of which it
    says nothing.
    """
    if not has_nvidia_card() or torch_cuda_version() is None:
        return False
    if visible is not None and visible.startswith("MIG-"):
        return True
    is_hidden = visible is not None and re.match(r"\d|GPU-", visible) is None
    return not is_hidden and not gpus(run=run)


def torch_cuda_version() -> str | None:
    """Return the CUDA version that the installed torch was built for; None: for the CPU alone.

    Read from torch's own version file, without importing it.
    """
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    text = _text(Path(spec.origin).with_name("version.py"))
    found = re.search(r"^cuda\b[^=\n]*=\s*'([^']+)'", text, re.MULTILINE)
    return found[1] if found else None


def _meminfo(root: Path) -> tuple[int, int | None]:
    """Return the machine's memory, and what is available of it."""
    values = {
        key: int(kib) * 1024
        for key, kib in re.findall(r"^(\w+):\s+(\d+) kB$", _text(root / "proc/meminfo"), re.M)
    }
    return values.get("MemTotal", 0), values.get("MemAvailable")


def _group_limits(root: Path) -> list[tuple[int, int, str]]:
    """Return (bytes left, limit, where) for every control group that bounds this process.

    Pages of files count as used there, but are given up when there is need.
    """
    found = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers == "":
            base, limit, used, pages = "sys/fs/cgroup", "memory.max", "memory.current", "file"
        elif "memory" in controllers.split(","):
            base, limit = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
            used, pages = "memory.usage_in_bytes", "total_cache"
        else:
            continue
        # Every group up to the root bounds it. In a container the path may not be there.
        own = Path(path.lstrip("/"))
        for group in dict.fromkeys((own, *own.parents)):
            folder = root / base / group
            most, taken = _number(folder / limit), _number(folder / used)
            if most is None or taken is None or most >= _NO_LIMIT:
                continue
            cached = re.search(rf"^{pages} (\d+)$", _text(folder / "memory.stat"), re.MULTILINE)
            left = most - taken + (int(cached[1]) if cached else 0)
            found.append((min(left, most), most, f"/{base}/{group}"))
    return found


def _biggest_processes(root: Path) -> tuple[Holder, ...]:
    found = []
    for folder in (root / "proc").glob("[0-9]*"):
        status = _text(folder / "status")
        name = re.search(r"^Name:\s+(.+)$", status, re.MULTILINE)
        held = _own_bytes(status)
        if name is not None and held >= LEAST_HELD and int(folder.name) != os.getpid():
            found.append(Holder(int(folder.name), name[1], held))
    return tuple(sorted(found, key=lambda holder: -holder.num_bytes)[:NUM_HOLDERS])


def _own_bytes(status: str) -> int:
    own = re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB$", status, re.MULTILINE)
    return 1024 * sum(map(int, own))


def nvidia_smi(query: str, num_columns: int, run: Run | None = None) -> list[list[str]]:
    """Return the rows that nvidia-smi answers; none without it, or if it fails."""
    output = (run or _run)(["nvidia-smi", query, "--format=csv,noheader,nounits"])
    rows = csv.reader((output or "").splitlines(), skipinitialspace=True)
    return [[cell.strip() for cell in row] for row in rows if len(row) == num_columns]


def smi_problem() -> str | None:
    """Return why nvidia-smi tells of no GPU, in its own words; None where there is none of it."""
    program = _smi()
    if program is None:
        return None
    try:
        done = _ask([program, "-L"])
    except subprocess.TimeoutExpired:
        return f"no answer within {SMI_TIMEOUT_S:g} s"
    except OSError as error:
        return error.strerror or type(error).__name__
    lines = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines()]
    return shorten(next(filter(None, lines), f"exit status {done.returncode}"), 160)


def _run(command: Sequence[str]) -> str | None:
    program = _smi()
    if program is None:
        return None
    try:
        done = _ask([program, *command[1:]])
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _smi() -> str | None:
    return shutil.which("nvidia-smi") or shutil.which(
        "nvidia-smi", path=os.pathsep.join(SMI_FOLDERS)
    )


def _ask(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    # A program's name may be in any encoding.
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=SMI_TIMEOUT_S,
        check=False,
    )


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
