"""`sightline serve` as a process of its own, and what can be seen of it from outside."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

READY = re.compile(r"Ready in ([0-9.]+) s: .* at (http://\S+)")
# A busy machine may take long; nothing waits this long on an idle one.
PATIENCE_S = 100.0


@dataclass(slots=True)
class Served:
    """A running server. `log` is all that it has written so far."""

    process: "subprocess.Popen[str]"
    url: str
    ready_s: float
    log: list[str] = field(default_factory=list)
    starved_s: float = 0.0  # of `ready_s`, waiting for a core

    @property
    def pid(self) -> int:
        return self.process.pid

    def engine_pid(self) -> int:
        """The child that runs `sightline.engine.host`."""
        for child in children(self.pid):
            if "sightline.engine.host" in command_of(child):
                return child
        raise AssertionError("there is no engine process")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def post(self, body: object, **headers: str) -> httpx2.Response:
        with httpx2.Client(trust_env=False, timeout=PATIENCE_S) as client:
            return client.post(f"{self.url}/v1/chat/completions", json=body, headers=headers)

    def ask(self, content: object, **fields: object) -> str:
        body = {"model": "glm-4v", "messages": [{"role": "user", "content": content}], **fields}
        response = self.post(body)
        assert response.status_code == 200, response.text
        return response.json()["choices"][0]["message"]["content"]

    def wait_for_log(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not any(text in line for line in self.log):
            assert time.monotonic() < deadline, f"{text!r} is not in the log"
            time.sleep(0.01)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        with httpx2.Client(trust_env=False) as client:
            while client.get(f"{self.url}/ready").status_code != 200:
                assert time.monotonic() < deadline, "the server is not ready again"
                time.sleep(0.05)


@contextmanager
def serving(folder: Path, *arguments: str, **further: str) -> Iterator[Served]:
    """Start a server in `folder`; `further` variables join its environment."""
    command = [sys.executable, "-m", "sightline", "serve", "--port", "0", *arguments]
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"} | further
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    log: list[str] = []
    is_ready = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            log.append(line)
            if READY.search(line):
                is_ready.set()
        is_ready.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        is_ready.wait(PATIENCE_S)
        found = READY.search("".join(log))
        assert found, "".join(log)
        pids = [process.pid, *children(process.pid)]
        starved_s = sum(starved_seconds(pid) for pid in pids)
        yield Served(process, found[2], float(found[1]), log, starved_s)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        reader.join()
        assert process.stdout is not None
        process.stdout.close()


def children(pid: int) -> list[int]:
    """Direct and indirect children of a process, by `ps`, which Linux and macOS both have."""
    rows = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    parents = {int(child): int(parent) for child, parent in (row.split() for row in rows)}
    found: list[int] = []
    for child in parents:
        ancestor = parents[child]
        while ancestor in parents and ancestor != pid:
            ancestor = parents[ancestor]
        if ancestor == pid:
            found.append(child)
    return found


def command_of(pid: int) -> str:
    return _ps(pid, "command=")


def starved_seconds(pid: int) -> float:
    """How long the main thread of a process could have run and had no core; 0 if unknown."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def resident_mib(pid: int) -> float:
    return int(_ps(pid, "rss=")) / 1024


def _ps(pid: int, column: str) -> str:
    return subprocess.run(
        ["ps", "-p", str(pid), "-o", column], capture_output=True, text=True, check=True
    ).stdout.strip()
