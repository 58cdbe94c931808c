"""Starting, watching and stopping the servers of a comparison.

A server is a row of `KINDS`; `{exe}` is its executable, `{model}` a checkpoint folder. To compare
another one, add a row.
"""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sightline.client.chat import Client

PLAIN_SERVER = Path(__file__).with_name("plain_server.py")
START_TIMEOUT_S = 400.0
KV_GIB = 2
TICKS = os.sysconf("SC_CLK_TCK")
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
SIGHTLINE = (
    "{exe} serve {model} --host 127.0.0.1 --port {port} --max-model-len 2048 --max-num-seqs 16 "
    f"--kv-cache-memory {KV_GIB}GiB --dtype "
)
VLLM = (
    "{exe} serve {model} --host 127.0.0.1 --port {port} --max-model-len 2048 --max-num-seqs 16 "
    "--dtype "
)
GLM_4V_FOR_VLLM = (
    """ --hf-overrides '{{"architectures": ["GLM4VForCausalLM"]}}' """
    """--tokenizer {model}/fast_tokenizer --limit-mm-per-prompt '{{"image": 1}}'"""
)


@dataclass(frozen=True, slots=True)
class Kind:
    program: str  # which executable; the name of compare.py's option
    command: str
    ready: str  # 200 from here means that requests are welcome
    extra: tuple[tuple[str, Any], ...] = ()  # further fields of each request's body
    is_one_at_a_time: bool = False


# Random weights say one token over and over, which guesses are too good at: see ADR 30.
UNGUESSED = " --num-speculative-tokens 0"
KINDS = {
    "sightline-bf16": Kind("sightline", SIGHTLINE + "bfloat16" + UNGUESSED, "/ready"),
    "sightline-auto": Kind("sightline", SIGHTLINE + "auto" + UNGUESSED, "/ready"),
    "sightline-guessing": Kind("sightline", SIGHTLINE + "bfloat16", "/ready"),
    "vllm-bf16": Kind("vllm", VLLM + "bfloat16", "/health", extra=(("ignore_eos", True),)),
    "vllm-fp32": Kind("vllm", VLLM + "float32", "/health", extra=(("ignore_eos", True),)),
    "transformers": Kind(
        "transformers",
        "{exe} serve {model} --host 127.0.0.1 --port {port} --device cpu --log-level warning",
        "/health",
        is_one_at_a_time=True,
    ),
    "plain": Kind(
        "plain",
        f"{{exe}} {shlex.quote(str(PLAIN_SERVER))} {{model}} --port {{port}}",
        "/v1/models",
        is_one_at_a_time=True,
    ),
}


@dataclass
class Server:
    """A running server. Its processes are `pid` and everything below it."""

    label: str
    url: str
    model: str
    pid: int
    ready_s: float
    first_answer_s: float = 0.0
    pss_mb: float = 0.0

    def processes(self) -> list[int]:
        parents: dict[int, int] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError, ValueError):
                parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        family = {self.pid}
        while more := {pid for pid, parent in parents.items() if parent in family} - family:
            family |= more
        return sorted(family)

    def measure_memory(self) -> None:
        """Note the memory of all processes, shared pages counted once."""
        kib = 0
        for pid in self.processes():
            with suppress(OSError, ValueError, IndexError):
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                kib += int(rollup.partition("Pss:")[2].split()[0])
        self.pss_mb = kib * 1024 / 1e6

    def cpu_s(self) -> float:
        """Return the processor time used so far."""
        ticks = 0
        for pid in self.processes():
            with suppress(OSError, ValueError, IndexError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS


def host_cpu_s() -> float:
    """Return the processor time used so far by everything on the machine."""
    user, nice, system, _idle, _iowait, *rest = map(
        int, Path("/proc/stat").read_text().split()[1:9]
    )
    return (user + nice + system + sum(rest)) / TICKS


@contextmanager
def started(label: str, exe: str, checkpoint: Path, port: int, log: Path) -> Iterator[Server]:
    """Run a server for the length of the block.

    Raises SystemExit if it fails, naming `log`, or if another server has the port already: that one
    would be measured in its place.
    """
    kind = KINDS[label]
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise SystemExit(f"port {port}, which {label} wants, is taken: stop what listens there")
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            shlex.split(_command(kind, exe, checkpoint, port)),
            env=os.environ | OFFLINE | _environment(kind, exe),  # noqa: TID251
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = None
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url + kind.ready, process, log)
        ready_s = time.monotonic() - began
        with Client(url) as client:
            model = str(checkpoint) if kind.program == "transformers" else client.models()[0].id
        server = Server(label, url, model, process.pid, ready_s)
        yield server
    finally:
        pids = server.processes() if server else []
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        for pid in (process.pid, *pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def _command(kind: Kind, exe: str, checkpoint: Path, port: int) -> str:
    command = kind.command
    config = json.loads((checkpoint / "config.json").read_text())
    if kind.program == "vllm" and config["model_type"] == "chatglm":
        command += GLM_4V_FOR_VLLM
    return command.format(exe=shlex.quote(exe), model=shlex.quote(str(checkpoint)), port=port)


def _environment(kind: Kind, exe: str) -> dict[str, str]:
    """Return what makes vLLM fair: as it starts, it computes on one of two cores."""
    if kind.program != "vllm":
        return {}
    listed = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    tcmalloc = [
        line.split()[-1] for line in listed.splitlines() if "libtcmalloc_minimal.so.4 " in line
    ]
    openmp = Path(exe).absolute().parent.parent / "lib" / "libiomp5.so"
    preloads = tcmalloc[:1] + [str(openmp)] * openmp.exists()
    if len(preloads) < 2:
        print(f"vllm: of tcmalloc and libiomp5 only {preloads} is here", file=sys.stderr)
    cores = sorted(os.sched_getaffinity(0))
    return {
        "VLLM_CPU_OMP_THREADS_BIND": f"{cores[0]}-{cores[-1]}",
        "VLLM_CPU_KVCACHE_SPACE": str(KV_GIB),
        "LD_PRELOAD": ":".join(preloads),
    }


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"a server ended with status {process.returncode}; see {log}")
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                if response.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise SystemExit(f"a server was not ready after {START_TIMEOUT_S:.0f} s; see {log}")


def save_running(servers: list[Server], file: Path) -> None:
    file.write_text(json.dumps([asdict(server) for server in servers]))


def load_running(file: Path) -> list[Server]:
    return [Server(**values) for values in json.loads(file.read_text())]
