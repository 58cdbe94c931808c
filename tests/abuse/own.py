"""Starting `tests.abuse.server` and asking it, and the machine, how it feels."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class OwnServer:
    """A server process. `url` is where it listens."""

    process: "subprocess.Popen[str]"
    url: str

    def worst_stall_s(self) -> float:
        """How long its event loop was held up at the worst since the last call."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(json.loads(self.process.stdout.readline()))

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def num_descriptors(self) -> int | None:
        folder = Path(f"/proc/{self.process.pid}/fd")
        return len(os.listdir(folder)) if folder.exists() else None

    def anonymous_mib(self) -> float | None:
        """Memory that belongs to the process alone, swapped out or not (Linux)."""
        path = Path(f"/proc/{self.process.pid}/status")
        if not path.exists():
            return None
        rows = dict(line.split(":", 1) for line in path.read_text().splitlines())
        return sum(int(rows[name].split()[0]) for name in ("RssAnon", "VmSwap")) / 1024


@contextmanager
def own_server(*arguments: str) -> Iterator[OwnServer]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.abuse.server", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        assert url.startswith("http"), "the server did not start"
        yield OwnServer(process, url)
    finally:
        process.stdin.close()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
