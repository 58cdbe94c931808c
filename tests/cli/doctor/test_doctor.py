"""`sightline doctor` on this machine, and on one where something is wrong."""

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from stand_in_hub import stand_in_hub

from sightline.cli.doctor import machine, self_test
from sightline.cli.doctor.machine import CpuKernels
from sightline.cli.doctor.ports import PortOwner, owner_of
from sightline.cli.doctor.torch_process import TorchProcess
from sightline.engine import probe
from sightline.settings import resolve


def level_of(report: dict, check: str) -> list[str]:
    return [row["level"] for row in report["checks"] if row["check"] == check]


@pytest.fixture
def fatal_torch(tmp_path: Path) -> str:
    """A search path whose torch ends the process that loads it."""
    folder = tmp_path / "fatal"
    folder.mkdir()
    (folder / "torch.py").write_text("import os\n\nos._exit(3)\n")
    return str(folder)


def test_whatever_breaks_in_the_self_test_is_a_finding(monkeypatch):
    def broken(settings, torch_process):
        raise ModuleNotFoundError("No module named 'uvicorn'")

    monkeypatch.setattr(self_test, "_ask", broken)
    with TorchProcess() as process:
        found = self_test.ask_bundled_model(resolve(environ={}), process)
    assert found.problem == "ModuleNotFoundError: No module named 'uvicorn'"


@pytest.mark.live
def test_a_healthy_machine_passes_with_its_self_test(sightline):
    with stand_in_hub({}) as hub:
        done = sightline(
            "doctor", "--json", "--port", "0", HF_ENDPOINT=hub.url, MODELSCOPE_ENDPOINT=hub.url
        )
    assert done.status == 0, done.out + done.err
    report = json.loads(done.out)
    assert report["healthy"]
    assert level_of(report, "self_test") == ["ok"]
    assert level_of(report, "hub") == ["ok", "ok"]
    # Whoever has no compiler has a healthy machine, too.
    assert level_of(report, "kernels") in (["ok"], ["note"], ["warning"])
    [test] = [row for row in report["checks"] if row["check"] == "self_test"]
    assert "red circle" in test["values"]["answer"]


@pytest.mark.live
def test_what_is_broken_is_told_with_its_remedy_and_status_1(sightline, fatal_torch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = ["doctor", "--offline", "--port", port]
        done = sightline(*arguments, PYTHONPATH=fatal_torch)
        told = sightline("--lang", "zh", *arguments, "--json", PYTHONPATH=fatal_torch)
    assert done.status == told.status == 1
    lines = done.out.splitlines()
    [at] = [i for i, line in enumerate(lines) if line.startswith("BROKEN   port")]
    assert f"sightline serve --port {int(port) + 1}" in lines[at + 1]
    assert lines[-1].startswith("Something is broken")
    report = json.loads(told.out)
    assert not report["healthy"]
    assert level_of(report, "port") == level_of(report, "torch") == ["broken"]
    assert level_of(report, "self_test") == []
    assert any("已被" in row["message"] for row in report["checks"])


def test_who_listens_on_a_port_is_known():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        owner = owner_of(listener.getsockname()[1])
    assert owner.pid == os.getpid()
    assert Path(owner.command.split()[0]).name.startswith("py")  # python, or pytest itself


def test_a_free_port_is_free():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert machine.ask_port("127.0.0.1", port) is not None
    assert machine.ask_port("127.0.0.1", port) is None


def test_what_else_is_in_the_way_of_a_port_is_known(monkeypatch):
    assert machine.ask_port("192.0.2.1", 8888) == PortOwner(hindrance="elsewhere")

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("socket.create_server", refuse)
    assert machine.ask_port("127.0.0.1", 80) == PortOwner(hindrance="forbidden")


def test_hubs_are_knocked_at_and_offline_they_are_not():
    with stand_in_hub({}) as hub:
        homes = {"huggingface": hub.url, "modelscope": "http://127.0.0.1:1"}
        first, second = machine.ask_hubs(homes, is_offline=False)
        assert (first.problem, second.hub) == (None, "modelscope")
        assert second.problem
        assert all(answer.is_offline for answer in machine.ask_hubs(homes, is_offline=True))


def test_a_proxy_that_takes_no_connection_is_dead():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        alive = f"http://127.0.0.1:{listener.getsockname()[1]}"
        proxies = {"HTTP_PROXY": alive, "ALL_PROXY": "http://127.0.0.1:1", "NO_PROXY": "*"}
        assert machine.dead_proxies(proxies) == ["ALL_PROXY"]


def test_a_torch_that_ends_its_process_is_told(tmp_path: Path, monkeypatch):
    (tmp_path / "torch.py").write_text(
        "import os\n\nos.write(2, b'Illegal instruction\\n')\nos._exit(3)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with TorchProcess() as process:
        assert process.ask().error == "Illegal instruction"


def test_a_torch_without_what_our_kernels_want_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "sightline.models.cpu.state", None)
    found = CpuKernels(**probe._kernels())
    assert found.state == "unusable"
    assert found.problem.startswith("ModuleNotFoundError: ")


def test_a_torch_that_takes_too_long_is_told(tmp_path: Path, monkeypatch):
    (tmp_path / "torch.py").write_text("import threading\n\nthreading.Event().wait()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with TorchProcess(timeout_s=0.5) as process:
        assert process.ask().is_silent
    assert process.process.returncode is not None


def test_nvidia_smi_is_read(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\ncase $1 in\n"
        '--query-gpu*) echo "560.35.03, NVIDIA H200";;\n'
        '*) echo "python, 4242, 20480";;\nesac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert machine.ask_driver() == machine.Driver(
        version="560.35.03", gpus=("NVIDIA H200",), holders=("python (4242): 20480 MiB",)
    )
    program.write_text("#!/bin/sh\nexit 9\n")
    assert machine.ask_driver() is None


def test_the_examination_itself_never_loads_torch(fatal_torch):
    script = (
        "import sys\n"
        "from sightline.cli.doctor.examination import examine\n"
        "from sightline.settings import resolve\n"
        "found = list(examine(resolve({'offline': True, 'port': 0}), self_test=False))\n"
        "assert len(found) > 10 and 'torch' not in sys.modules\n"
    )
    environ = os.environ | {"PYTHONPATH": fatal_torch}
    subprocess.run([sys.executable, "-c", script], check=True, timeout=100, env=environ)
