"""sightline beside its peers on one machine, in interleaved rounds: the table of promises.

    python benchmarks/compare.py CHECKPOINT [--vllm EXE] [--transformers EXE] [--plain PYTHON]
        [--work t1,t8,t16,d1,d8,s1] [--rounds 5] [--out benchmarks/results]

Servers that are not given or not found are named as missing. All are up at once; within a round
every workload goes to each server in turn, and the turn rotates. Only the ratios of one round are
compared; the table shows their median and range. `t8` is text, 128 words in, 64 tokens out, 8
askers; `d` a distinct 448x448 picture in every question, 32 out; `s` the same picture. Writes one
JSON file named after the commit, with the machine, and prints a Markdown table.

Nothing else may use the cores: a busy neighbour makes most figures of OpenMP servers noise.
"""

import argparse
import json
import os
import platform
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sightline.client.bench import Load, LoadReport, Work, measure
from sightline.client.chat import Client

ROOT = Path(__file__).resolve().parent.parent
PLAIN_SERVER = Path(__file__).with_name("plain_server.py")
START_TIMEOUT_S = 300.0
PAUSE_S = 2.0  # vLLM's workers spin for a second after their last step
FIRST_PORT = 8760


@dataclass(frozen=True, slots=True)
class Peer:
    """How to start a server. `{exe}`, `{model}` and `{port}` are filled in."""

    command: str
    ready: str
    extra: tuple[tuple[str, Any], ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


PEERS = {
    "sightline": Peer("{exe} serve {model} --host 127.0.0.1 --port {port}", "/ready"),
    "vllm": Peer(
        "{exe} serve {model} --host 127.0.0.1 --port {port} --dtype bfloat16 --max-model-len 2048 "
        "--max-num-seqs 16",
        "/health",
        extra=(("ignore_eos", True),),
        # Its fair configuration: as it starts, it computes on one of two cores.
        environment=(
            ("VLLM_CPU_OMP_THREADS_BIND", "0-{last_core}"),
            ("VLLM_CPU_KVCACHE_SPACE", "2"),
        ),
    ),
    "transformers": Peer(
        "{exe} serve {model} --host 127.0.0.1 --port {port} --device cpu --log-level warning",
        "/health",
    ),
    "plain": Peer("{exe} {plain_server} {model} --port {port}", "/v1/models"),
}


@dataclass
class Running:
    name: str
    url: str
    model: str
    process: subprocess.Popen[bytes]
    start_s: float
    first_answer_s: float = 0.0
    pss_mb: float = 0.0


def workload(name: str) -> tuple[Work, Load]:
    """Return what `t8`, `d1` or `s16` stands for; the model is filled in later."""
    askers = int(name[1:])
    load = Load(concurrency=askers, num_requests=3 if askers == 1 else 2 * askers)
    if name[0] == "t":
        return Work(model="", num_words=128, max_tokens=64), load
    images = {"d": "distinct", "s": "same"}[name[0]]
    return Work(model="", num_words=16, max_tokens=32, images=images), load  # type: ignore[arg-type]


@contextmanager
def started(name: str, exe: str, model: str, port: int, log: Path) -> Iterator[Running]:
    peer = PEERS[name]
    cores = len(os.sched_getaffinity(0))
    values = {
        "exe": shlex.quote(exe),
        "model": shlex.quote(model),
        "port": port,
        "plain_server": shlex.quote(str(PLAIN_SERVER)),
    }
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    own = {key: value.format(last_core=cores - 1) for key, value in peer.environment}
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            shlex.split(peer.command.format(**values)),
            env=os.environ | offline | own,  # noqa: TID251
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url + peer.ready, process, log)
        start_s = time.monotonic() - began
        with Client(url) as client:
            served = client.models()[0].id
        yield Running(name, url, served, process, start_s)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


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
            time.sleep(0.1)
    raise SystemExit(f"a server was not ready after {START_TIMEOUT_S:.0f} s; see {log}")


def pss_mb(process: subprocess.Popen[bytes]) -> float:
    """Return the memory of a server and all its children in MB, shared pages counted once."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    family = {process.pid}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    total_kib = 0
    for pid in family:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total_kib += int(rollup.partition("Pss:")[2].split()[0])
        except (OSError, ValueError, IndexError):
            continue
    return total_kib * 1024 / 1e6


def ask(server: Running, name: str, key: str) -> LoadReport:
    work, load = workload(name)
    extra = dict(PEERS[server.name].extra)
    (report,) = measure(server.url, replace(work, model=server.model, key=key, extra=extra), [load])
    return report


def ratios(
    ours: list[LoadReport], theirs: list[LoadReport], figure: str
) -> tuple[float, float, float]:
    """Return median, lowest and highest ratio of the rounds, ours over theirs."""
    found = [
        value(a, figure) / value(b, figure)
        for a, b in zip(ours, theirs, strict=True)
        if value(a, figure) and value(b, figure)
    ]
    return (statistics.median(found), min(found), max(found)) if found else (0.0, 0.0, 0.0)


def value(report: LoadReport, figure: str) -> float:
    if figure == "ttft":
        return report.milliseconds["ttft"]["p50"] or 0.0
    return float(getattr(report, figure))


def machine() -> dict[str, Any]:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def commit() -> str:
    found = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"


def table(servers: list[Running], results: dict[tuple[str, str], list[LoadReport]]) -> str:
    lines = [
        "| work | server | tokens/s | requests/s | TTFT ms | sightline / it: tokens/s | TTFT |",
        "|---|---|---|---|---|---|---|",
    ]
    for (work, name), reports in results.items():
        ours = results[work, "sightline"]
        cells = [
            work,
            name,
            *(
                f"{statistics.median(value(r, figure) for r in reports):.2f}"
                for figure in ("tokens_per_s", "requests_per_s", "ttft")
            ),
            *(
                "{:.2f} ({:.2f}..{:.2f})".format(*ratios(ours, reports, figure))
                for figure in ("tokens_per_s", "ttft")
            ),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| server | ready s | first answer s | PSS MB |", "|---|---|---|---|"]
    lines += [
        f"| {s.name} | {s.start_s:.1f} | {s.first_answer_s:.1f} | {s.pss_mb:.0f} |" for s in servers
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--sightline", default=str(Path(sys.executable).with_name("sightline")))
    for name in PEERS:
        if name != "sightline":
            parser.add_argument(f"--{name}", help="executable; left out, it is named as missing")
    parser.add_argument("--work", default="t1,t8,t16,d1,d8,s1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    given = {name: getattr(arguments, name) for name in PEERS}
    found = {name: exe for name, exe in given.items() if exe and shutil.which(exe)}
    missing = [name for name in given if name not in found]
    if "sightline" not in found:
        raise SystemExit(f"{arguments.sightline} is not there; --sightline names it")
    works = arguments.work.split(",")
    facts = machine()
    with ExitStack() as stack:
        servers = []
        for number, (name, exe) in enumerate(found.items()):
            began = time.monotonic()
            log = arguments.out / f"{name}.log"
            server = stack.enter_context(
                started(name, exe, arguments.checkpoint, FIRST_PORT + number, log)
            )
            if error := ask(server, works[0], "hello").first_error:
                raise SystemExit(f"{name} failed its first questions: {error}")
            server.first_answer_s = time.monotonic() - began
            server.pss_mb = pss_mb(server.process)
            servers.append(server)
        results: dict[tuple[str, str], list[LoadReport]] = {
            (work, server.name): [] for work in works for server in servers
        }
        turn = 0
        for number in range(arguments.rounds):
            for work in works:
                for server in servers[turn:] + servers[:turn]:
                    time.sleep(PAUSE_S)
                    report = ask(server, work, f"{number}/{work}")
                    results[work, server.name].append(report)
                    print(
                        f"round {number} {work} {server.name}: {report.tokens_per_s:.1f} tokens/s",
                        file=sys.stderr,
                    )
                turn = (turn + 1) % len(servers)
    text = table(servers, results)
    if missing:
        text += f"\n\nNot installed here, so not measured: {', '.join(missing)}."
    print(text)
    name = f"{time.strftime('%Y-%m-%d')}-{commit()}.json"
    content = {
        "commit": commit(),
        "machine": facts,
        "missing": missing,
        "servers": {
            s.name: {"ready_s": s.start_s, "first_answer_s": s.first_answer_s, "pss_mb": s.pss_mb}
            for s in servers
        },
        "runs": [
            {"work": work, "server": server, "rounds": [asdict(report) for report in reports]}
            for (work, server), reports in results.items()
        ],
    }
    (arguments.out / name).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
