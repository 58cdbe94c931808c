"""`sightline doctor` on this machine, and on one where something is wrong."""

import errno
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme
from stand_in_hub import stand_in_hub

from sightline.cli.doctor import checks, machine, self_test
from sightline.cli.doctor.findings import Finding
from sightline.cli.doctor.machine import CpuKernels
from sightline.cli.doctor.ports import PortOwner, owner_of
from sightline.cli.doctor.torch_process import TorchProcess
from sightline.engine import probe
from sightline.models import device_memory
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


class Portal(BaseHTTPRequestHandler):
    """Whatever it is asked, and for whomever, it gives the same answer."""

    status: int
    content: bytes
    location: str

    def do_GET(self) -> None:
        is_moved = self.location and not self.path.startswith("/login")
        self.send_response(302 if is_moved else self.status)
        if is_moved:
            self.send_header("Location", self.location)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    do_CONNECT = do_GET

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def portal(status: int, content: str = "", location: str = "") -> Iterator[str]:
    state = {"status": status, "content": content.encode(), "location": location}
    with ThreadingHTTPServer(("127.0.0.1", 0), type("It", (Portal,), state)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def finding_of(url: str, hub: str = "huggingface") -> Finding:
    return checks.check_hub(machine.ask_hubs({hub: url}, is_offline=False)[0])


LOGIN = "<!doctype html><html><head><title>\n Log in &amp; surf\x1b[2J\n</title></head></html>"


@pytest.fixture
def in_a_hotel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each hub is at one address, and no variable decides how it is reached."""
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    for name in (*proxies, *map(str.lower, proxies), "HF_ENDPOINT", "MODELSCOPE_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine, "HUB_HOMES", {})


@pytest.mark.usefixtures("in_a_hotel")
@pytest.mark.parametrize("hub", ["huggingface", "modelscope"])
@pytest.mark.parametrize(
    ("status", "content", "seen"),
    [
        (200, LOGIN, 'HTTP 200, "Log in & surf?[2J"'),
        (403, "<title>Blocked</title>", 'HTTP 403, "Blocked"'),
        (404, '{"detail": "Not Found"}', 'HTTP 404, "{"detail": "Not Found"}"'),
        (200, "[" * 10_000, f'HTTP 200, "{"[" * 63}…"'),
        (200, "", 'HTTP 200, ""'),
        (200, '{"models": []}', 'HTTP 200, "{"models": []}"'),
    ],
)
def test_a_page_in_the_place_of_a_hub_is_no_hub(hub, status, content, seen):
    with portal(status, content) as url:
        finding = finding_of(url, hub)
    assert (finding.level, finding.code) == ("warning", "hub.page")
    assert finding.message == f"at {url} something else than {hub} answers: {seen}"
    assert f"open {url} in a browser" in finding.fix


@pytest.mark.usefixtures("in_a_hotel")
def test_where_a_login_page_is_is_said():
    with portal(200, LOGIN) as there:
        port = there.rpartition(":")[2]
        with portal(200, LOGIN, f"http://localhost:{port}/login") as url:
            finding = finding_of(url)
    assert finding.message.endswith(', "Log in & surf?[2J", http://localhost')


@pytest.mark.usefixtures("in_a_hotel")
def test_the_variable_that_leads_to_no_hub_is_the_one_to_mend(monkeypatch):
    with portal(200, LOGIN) as url:
        monkeypatch.setenv("HF_ENDPOINT", url.replace("//", "//me:secret@"))
        finding = finding_of(url.replace("//", "//me:secret@"))
        assert finding.code == "hub.page_mirror"
        assert f"at {url} (HF_ENDPOINT) something else" in finding.message
        assert "`unset HF_ENDPOINT`" in finding.fix
        monkeypatch.delenv("HF_ENDPOINT")
        monkeypatch.setenv("HTTP_PROXY", url.replace("//", "//me:secret@"))
        finding = finding_of("http://hub.invalid")
        assert finding.code == "hub.page_proxy"
        assert f"through HTTP_PROXY={url}, something else" in finding.message
        assert "hub.invalid" in finding.fix


@pytest.mark.usefixtures("in_a_hotel")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_password_or_refuses_is_named(monkeypatch, scheme):
    name = f"{scheme.upper()}_PROXY"
    with portal(407, "<title>Who are you?</title>") as url:
        monkeypatch.setenv(name, url)
        finding = finding_of(f"{scheme}://hub.invalid", "modelscope")
    assert (finding.level, finding.code) == ("warning", "hub.proxy_login")
    assert finding.fix == f"export {name}={url.replace('//', '//NAME:PASSWORD@')}"
    with portal(403) as url:
        monkeypatch.setenv(name, url)
        finding = finding_of(f"{scheme}://hub.invalid")
    assert finding.code == ("hub.page_proxy" if scheme == "http" else "hub.proxy_refuses")
    assert url in finding.message
    assert "403" in finding.message


@pytest.mark.usefixtures("in_a_hotel")
def test_a_certificate_that_is_not_trusted_is_called_so(monkeypatch):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with ThreadingHTTPServer(("127.0.0.1", 0), Portal) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        finding = finding_of(f"https://localhost:{server.server_port}")
        server.shutdown()
    assert (finding.level, finding.code) == ("warning", "hub.certificate")
    assert "SSL_CERT_FILE" in finding.fix


@pytest.mark.usefixtures("in_a_hotel")
def test_a_hub_that_refuses_is_a_hub(monkeypatch):
    with stand_in_hub({}) as hub:
        hub.faults["list"] = 503
        finding = finding_of(hub.url, "modelscope")
        assert (finding.level, finding.code) == ("note", "hub.modelscope_unreachable")
        assert finding.message.endswith("cannot be reached: HTTP 503")
    with portal(404, '{"Code": 10010205001, "Message": "not found"}') as url:
        assert finding_of(url, "modelscope").level == "ok"


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
    program.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(device_memory, "SMI_FOLDERS", ())
    assert machine.ask_driver() is None


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        (
            "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18",
            "Failed to initialize NVML: Driver/library version mismatch",
        ),
        ("echo 'no devices' >&2; exit 6", "no devices"),
        ("exit 9", "exit status 9"),
        ("printf '\\324\\n'", "\ufffd"),
        ("while :; do :; done", "no answer within 0.3 s"),
    ],
)
def test_an_nvidia_smi_that_tells_of_no_gpu_is_no_missing_driver(
    answers, problem, tmp_path, monkeypatch
):
    """After a driver update, before the restart, it is all that says what is wrong."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{answers}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    if "no answer" in problem:
        monkeypatch.setattr(device_memory, "SMI_TIMEOUT_S", 0.3)
    assert machine.ask_driver() == machine.Driver(problem=problem)
    assert device_memory.gpus() == []


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
