"""Free memory and who holds it, from what Linux and nvidia-smi say."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from sightline.models import device_memory
from sightline.models.device_memory import MIB, are_untold, cpu_memory, free_cpu_memory, gpus

GIB = 1024 * MIB
GPUS = """\
0, GPU-aaaa, NVIDIA GeForce RTX 4090, 24564, 20000, 8.9
1, GPU-bbbb, NVIDIA H200, 143771, 143000, 9.0
2, GPU-cccc, Tesla V100, 16160, 16000, 7.0
"""
APPS = """\
GPU-aaaa, 41, /usr/bin/python3, 3000
GPU-aaaa, 42, ollama, 1000
GPU-bbbb, 43, python, [N/A]
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine of 16 GiB, 10 of them available, without bf16, and two processes."""
    write(tmp_path, "proc/meminfo", f"MemTotal: {16 * MIB} kB\nMemAvailable: {10 * MIB} kB\n")
    write(tmp_path, "proc/cpuinfo", "model name\t: Xeon\nflags\t\t: sse avx512f\n")
    for pid, name, mib in ((101, "python", 3000), (102, "sshd", 3), (103, "firefox", 900)):
        status = f"Name:\t{name}\nRssAnon:\t{mib * 1024} kB\nRssFile:\t99 kB\nRssShmem:\t0 kB\n"
        write(tmp_path, f"proc/{pid}/status", status)
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_a_machine_tells_its_free_memory_and_its_biggest_processes(machine: Path) -> None:
    memory = cpu_memory(machine)
    assert memory is not None
    assert (memory.total, memory.free, memory.limit) == (16 * GIB, 10 * GIB, "")
    assert [(holder.pid, holder.name) for holder in memory.holders] == [
        (101, "python"),
        (103, "firefox"),
    ]
    assert memory.holders[0].num_bytes == 3000 * MIB
    assert (memory.name, memory.has_bfloat16) == ("Xeon", False)


def test_a_control_group_of_version_2_bounds_it_but_for_pages_of_files(machine: Path) -> None:
    write(machine, "proc/self/cgroup", "0::/docker/box\n")
    write(machine, "sys/fs/cgroup/docker/memory.max", f"{4 * GIB}\n")
    write(machine, "sys/fs/cgroup/docker/memory.current", f"{3 * GIB}\n")
    write(machine, "sys/fs/cgroup/docker/memory.stat", f"anon 1\nfile {2 * GIB}\n")
    write(machine, "sys/fs/cgroup/docker/box/memory.max", "max\n")
    memory = cpu_memory(machine)
    assert memory is not None
    assert (memory.total, memory.free) == (4 * GIB, 3 * GIB)
    assert memory.limit == "/sys/fs/cgroup/docker"
    assert free_cpu_memory(machine) == 3 * GIB


def test_a_container_sees_its_own_group_at_the_root(machine: Path) -> None:
    write(machine, "proc/self/cgroup", "0::/not/visible/from/here\n")
    write(machine, "sys/fs/cgroup/memory.max", f"{2 * GIB}\n")
    write(machine, "sys/fs/cgroup/memory.current", f"{GIB}\n")
    assert free_cpu_memory(machine) == GIB


def test_a_control_group_of_version_1_bounds_it_too(machine: Path) -> None:
    write(machine, "proc/self/cgroup", "9:name=systemd:/\n4:memory:/job\n0::/\n")
    write(machine, "sys/fs/cgroup/memory/memory.limit_in_bytes", f"{2**63 - 4096}\n")
    write(machine, "sys/fs/cgroup/memory/memory.usage_in_bytes", f"{9 * GIB}\n")
    assert free_cpu_memory(machine) == 10 * GIB
    write(machine, "sys/fs/cgroup/memory/job/memory.limit_in_bytes", f"{5 * GIB}\n")
    write(machine, "sys/fs/cgroup/memory/job/memory.usage_in_bytes", f"{4 * GIB}\n")
    assert free_cpu_memory(machine) == GIB


def test_where_nobody_tells_there_is_no_guess(tmp_path: Path) -> None:
    assert cpu_memory(tmp_path) is None
    assert free_cpu_memory(tmp_path) == 0


def smi(command: Sequence[str]) -> str:
    return GPUS if "--query-gpu" in command[1] else APPS


def test_gpus_tell_their_free_memory_and_who_holds_it() -> None:
    found = gpus(run=smi)
    assert [gpu.device for gpu in found] == ["cuda:0", "cuda:1", "cuda:2"]
    assert (found[0].total, found[0].free) == (24564 * MIB, 20000 * MIB)
    assert [(h.pid, h.name, h.num_bytes) for h in found[0].holders] == [
        (41, "python3", 3000 * MIB),
        (42, "ollama", 1000 * MIB),
    ]
    assert found[1].holders == ()
    assert [gpu.has_bfloat16 for gpu in found] == [True, True, False]


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("1,0", ["NVIDIA H200", "NVIDIA GeForce RTX 4090"]),
        ("GPU-cc", ["Tesla V100"]),
        ("2,7,1", ["Tesla V100"]),
        ("", []),
        ("-1", []),
    ],
)
def test_the_visible_ones_are_numbered_anew(visible: str, names: list[str]) -> None:
    found = gpus(visible, run=smi)
    assert [gpu.name for gpu in found] == names
    assert [gpu.device for gpu in found] == [f"cuda:{i}" for i in range(len(names))]


@pytest.mark.parametrize("output", [None, "", "No devices were found\n", "a, b\n", "\0\n"])
def test_an_nvidia_smi_that_says_nothing_useful_means_no_gpu(output: str | None) -> None:
    assert gpus(run=lambda command: output) == []


@pytest.mark.parametrize(
    ("visible", "is_card_there", "is_cuda_built", "untold"),
    [
        (None, True, True, True),
        ("0,1", True, True, True),
        ("7", True, True, True),
        ("MIG-3f2a", True, True, True),
        ("", True, True, False),
        ("-1", True, True, False),
        ("NoDevFiles", True, True, False),
        (None, False, True, False),
        (None, True, False, False),
    ],
)
def test_a_gpu_of_which_nvidia_smi_says_nothing_is_not_taken_for_none(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    visible: str | None,
    is_card_there: bool,
    is_cuda_built: bool,
    untold: bool,
) -> None:
    """Some containers have a driver without its tools; parts of a card have their own names."""
    cards = (tmp_path if is_card_there else tmp_path / "nothing",)
    monkeypatch.setattr(device_memory, "DRIVER_CARDS", cards)
    version = "13.0" if is_cuda_built else None
    monkeypatch.setattr(device_memory, "torch_cuda_version", lambda: version)
    assert are_untold(visible, run=lambda command: None) == untold
    # Of whole cards it tells, so that a number that it does not know is a wrong one.
    assert are_untold(visible, run=smi) == (visible == "MIG-3f2a")


def test_nvidia_smi_is_found_where_it_is_not_on_the_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '0, GPU-1, NVIDIA H200, 143771, 143000, 9.0'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(device_memory, "SMI_FOLDERS", (str(tmp_path),))
    (found,) = gpus()
    assert (found.name, found.capability) == ("NVIDIA H200", (9, 0))
