"""sightline beside its peers on one machine, in interleaved rounds: the table of promises.

    python benchmarks/compare.py [--vllm EXE] [--transformers EXE] [--plain PYTHON] [--rounds 3]

Makes random checkpoints (`checkpoints.py`), starts every server that is given, warms them, and
sends them the same work in turn, in an order that rotates; only the ratios of one round are
compared, and the tables show their median and range. `t8` is text, 128 tokens in, 64 out, 8
askers; `d` a distinct 448x448 picture in every question, 32 out; `s` the same picture. A run that
had errors, short answers, or text in bunches is void and is asked again with new questions.

Every run is written to the results file as it ends. `--resume FILE` goes on where it stopped;
`--work t1,d1`, `--groups` and `--minutes` measure a part. `--hold` only starts the servers, which
a second `--attach` then measures, so that a quiet quarter of an hour is all measuring.

Nothing else may use the cores: a busy neighbour makes most figures of OpenMP servers noise. What
the cores did while all servers were idle is written beside every round.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from checkpoints import make
from compare_tables import tables
from servers import KINDS, Server, host_cpu_s, load_running, save_running, started

from sightline.client.bench import Load, LoadReport, Work, measure

ROOT = Path(__file__).resolve().parent.parent
PAUSE_S = 2.0  # vLLM's workers spin for a second after their last step
FIRST_PORT = 8760
MOST_TRIES = 3
MOST_BUNCHED = 0.25


@dataclass(frozen=True, slots=True)
class Group:
    """Servers that are compared on one checkpoint, and what they are asked."""

    family: str
    works: dict[str, tuple[str, ...]]  # labels by work

    @property
    def labels(self) -> list[str]:
        return list(dict.fromkeys(label for labels in self.works.values() for label in labels))


BATCHING = ("sightline-bf16", "sightline-guessing", "vllm-bf16", "sightline-auto", "vllm-fp32")
GROUPS = {
    "vllm": Group("glm-4v", dict.fromkeys(("t1", "t8", "t16", "d1", "d8", "s1"), BATCHING)),
    # Neither transformers serve nor the plain script can load GLM-4V.
    "transformers": Group(
        "qwen2-vl",
        {
            "t1": ("sightline-auto", "sightline-bf16", "sightline-guessing", "plain"),
            "t8": ("sightline-auto", "sightline-bf16", "sightline-guessing", "transformers"),
            "d8": ("sightline-auto", "sightline-bf16", "sightline-guessing", "transformers"),
            "t16": ("sightline-auto", "sightline-bf16", "sightline-guessing", "plain"),
        },
    ),
}


def workload(name: str) -> tuple[Work, Load]:
    """Return what `t8`, `d1` or `s1` stands for; model and key are filled in later."""
    askers = int(name[1:])
    load = Load(concurrency=askers, num_requests=max(3, askers))
    if name[0] == "t":
        return Work(model="", num_words=128, max_tokens=64), load
    images = {"d": "distinct", "s": "same"}[name[0]]
    return Work(model="", num_words=16, max_tokens=32, images=images), load  # type: ignore[arg-type]


def ask(server: Server, name: str, key: str) -> LoadReport:
    work, load = workload(name)
    extra = dict(KINDS[server.label].extra)
    (report,) = measure(server.url, replace(work, model=server.model, key=key, extra=extra), [load])
    return report


def is_void(report: LoadReport) -> bool:
    return bool(report.num_errors or report.num_short or report.bunched > MOST_BUNCHED)


def start_all(
    stack: ExitStack,
    group: str,
    labels: list[str],
    programs: dict[str, str],
    folder: Path,
    logs: Path,
) -> list[Server]:
    """Start a group's servers one after another, with first answers, warm-up and memory."""
    checkpoint = folder / GROUPS[group].family
    if not (checkpoint / "model.safetensors").exists():
        make(checkpoint, GROUPS[group].family)
    servers: list[Server] = []
    for number, label in enumerate(labels):
        exe = programs.get(KINDS[label].program)
        if exe is None:
            continue
        log = logs / f"{group}-{label}.log"
        began = time.monotonic()
        server = stack.enter_context(started(label, exe, checkpoint, FIRST_PORT + number, log))
        hello = Work(model=server.model, num_words=16, max_tokens=4)
        (report,) = measure(server.url, hello, [Load(num_requests=1)])
        if report.first_error:
            raise SystemExit(f"{label} failed its first question: {report.first_error}; see {log}")
        server.first_answer_s = time.monotonic() - began
        for work in sorted({work[0] + "1" for work in GROUPS[group].works}):
            ask(server, work, f"warm/{work}")
        server.measure_memory()
        servers.append(server)
        print(f"{label}: first answer after {server.first_answer_s:.1f} s", file=sys.stderr)
    return servers


def wait_for_sleep(servers: list[Server]) -> tuple[float, float]:
    """Pause; return how many cores the idle servers and the rest of the machine used meanwhile."""
    own, host = sum(server.cpu_s() for server in servers), host_cpu_s()
    began = time.monotonic()
    time.sleep(PAUSE_S)
    elapsed = time.monotonic() - began
    used = (sum(server.cpu_s() for server in servers) - own) / elapsed
    return used, (host_cpu_s() - host) / elapsed - used


def measure_round(
    group: str, work: str, servers: list[Server], number: int, turn: int
) -> dict[str, Any]:
    """Send one work to each server in turn; return the reports by label."""
    asked = [server for server in servers if server.label in GROUPS[group].works[work]]
    first = turn % len(asked)
    reports: dict[str, Any] = {}
    for server in asked[first:] + asked[:first]:
        for attempt in range(MOST_TRIES):
            awake, neighbours = wait_for_sleep(servers)
            report = ask(server, work, f"{group}/{number}/{work}/{attempt}")
            if not is_void(report):
                break
        reports[server.label] = asdict(report) | {
            "is_void": is_void(report),
            "attempts": attempt + 1,
            "awake_cores": round(awake, 3),
            "neighbour_cores": round(neighbours, 3),
        }
        print(
            f"{group} round {number} {work} {server.label}: {report.tokens_per_s:.1f} tokens/s, "
            f"first token {report.milliseconds['ttft']['p50'] or 0:.0f} ms"
            f"{' VOID' if is_void(report) else ''}, neighbours {neighbours:.2f} cores",
            file=sys.stderr,
        )
    return {"group": group, "work": work, "round": number, "reports": reports}


def measure_stream(checkpoint: Path) -> dict[str, Any]:
    """Return what `stream.py` says of this moment."""
    command = [sys.executable, str(ROOT / "benchmarks" / "stream.py"), str(checkpoint)]
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}  # noqa: TID251
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    values: dict[str, Any] = json.loads(found.stdout)
    return values


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return {
        "cpu": next(named, platform.processor()),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "python": platform.python_version(),
    }


def versions(programs: dict[str, str]) -> dict[str, list[str]]:
    """Return the packages that decide each environment's speed."""
    names = ("torch", "torchvision", "transformers", "vllm", "sightline")
    script = (
        "import importlib.metadata as m, json\n"
        f"print(json.dumps([d.name + ' ' + d.version for d in m.distributions() "
        f"if d.name in {names}]))"
    )
    found = {}
    for program, exe in programs.items():
        python = exe if program == "plain" else str(Path(exe).with_name("python"))
        said = subprocess.run([python, "-c", script], capture_output=True, text=True, check=False)
        found[program] = sorted(set(json.loads(said.stdout))) if said.returncode == 0 else []
    return found


def commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    return said.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--sightline", default=str(Path(sys.executable).with_name("sightline")))
    for program in ("vllm", "transformers", "plain"):
        add(f"--{program}", help="executable; left out, it is named as missing")
    add("--checkpoints", type=Path, default=ROOT / "build" / "checkpoints", help="made if missing")
    add("--groups", default=",".join(GROUPS), help=f"default: {','.join(GROUPS)}")
    add("--work", help="only these works, separated by commas")
    add("--labels", help=f"only these servers, of {','.join(KINDS)}")
    add("--rounds", type=int, default=3)
    add("--minutes", type=float, default=1e9, help="begin no round after so many")
    add("--resume", type=Path, help="results file to go on with")
    add("--hold", type=Path, help="start the servers of one group, note them here, and wait")
    add("--attach", type=Path, help="measure the servers that --hold noted")
    add("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    given = {name: getattr(arguments, name) for name in ("sightline", "vllm", "transformers")}
    given["plain"] = arguments.plain
    programs = {name: exe for name, exe in given.items() if exe and shutil.which(exe)}
    labels = arguments.labels.split(",") if arguments.labels else list(KINDS)
    arguments.out.mkdir(parents=True, exist_ok=True)
    # Ended from outside, it still ends its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    logs = ROOT / "build" / "benchmark-logs"
    logs.mkdir(parents=True, exist_ok=True)
    if arguments.resume is not None:
        file, state = arguments.resume, json.loads(arguments.resume.read_text())
    else:
        file = arguments.out / f"{time.strftime('%Y-%m-%d')}-{commit()}.json"
        state = {
            "commit": commit(),
            "machine": machine(),
            "versions": versions(programs),
            "missing": [name for name in given if name not in programs],
            "starts": [],
            "streams": [],
            "rounds": [],
        }
    stop_at = time.monotonic() + 60 * arguments.minutes
    for group in arguments.groups.split(","):
        with ExitStack() as stack:
            if arguments.attach is not None:
                servers = load_running(arguments.attach)
            else:
                wanted = [label for label in GROUPS[group].labels if label in labels]
                servers = start_all(stack, group, wanted, programs, arguments.checkpoints, logs)
                named = [asdict(s) | {"model": Path(s.model).name} for s in servers]
                state["starts"].append({"group": group, "servers": named})
            if arguments.hold is not None:
                save_running(servers, arguments.hold)
                _write(file, state)
                print("holding; interrupt to stop", file=sys.stderr)
                _wait_for_interrupt()
                return
            works = arguments.work.split(",") if arguments.work else list(GROUPS[group].works)
            _measure_group(group, works, servers, arguments, state, file, stop_at)
    text = tables(state)
    file.with_suffix(".md").write_text(text)
    print(text)


def _measure_group(
    group: str,
    works: list[str],
    servers: list[Server],
    arguments: argparse.Namespace,
    state: dict[str, Any],
    file: Path,
    stop_at: float,
) -> None:
    for number in range(arguments.rounds):
        for place, work in enumerate(works):
            done = [(row["group"], row["work"], row["round"]) for row in state["rounds"]]
            if (group, work, number) in done or time.monotonic() > stop_at:
                continue
            row = measure_round(group, work, servers, number, number + place)
            state["rounds"].append(row)
            if group == "vllm" and work == "t1":
                stream = measure_stream(arguments.checkpoints / GROUPS[group].family)
                state["streams"].append({"round": number} | stream)
            _write(file, state)


def _write(file: Path, state: dict[str, Any]) -> None:
    file.write_text(json.dumps(state, indent=1) + "\n")


def _wait_for_interrupt() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
