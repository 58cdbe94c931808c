"""Who listens on a port: from /proc on Linux, from lsof elsewhere."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

LISTENING = "0A"
PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class PortOwner:
    """`pid` and `command` are None for programs of other users.

    `hindrance`: nobody listens; the port is not for this user, or the address not of this machine.
    """

    hindrance: Literal["forbidden", "elsewhere"] | None = None
    pid: int | None = None
    command: str | None = None

    @property
    def is_sightline(self) -> bool:
        return self.command is not None and "sightline" in self.command


def owner_of(port: int) -> PortOwner:
    """Return what can be found out about the program that listens on `port`."""
    pid = _pid_of(_inodes(port)) if (PROC / "net").exists() else _pid_by_lsof(port)
    return PortOwner(pid=pid, command=_command(pid) if pid else None)


def _inodes(port: int) -> set[str]:
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            rows = (PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            cells = row.split()
            if cells[3] == LISTENING and int(cells[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{cells[9]}]")
    return found


def _pid_of(inodes: set[str]) -> int | None:
    for folder in PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if any(str(link.readlink()) in inodes for link in (folder / "fd").iterdir()):
                return int(folder.name)
        except OSError:  # another user's, or it has just ended
            continue
    return None


def _pid_by_lsof(port: int) -> int | None:
    program = shutil.which("lsof")
    if program is None:
        return None
    done = subprocess.run(
        [program, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-t"],
        capture_output=True,
        text=True,
        check=False,
    )
    pids = [line for line in done.stdout.split() if line.isdigit()]
    return int(pids[0]) if pids else None


def _command(pid: int) -> str | None:
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
        return b" ".join(words).decode(errors="replace").strip()[:120] or None
    except OSError:
        done = subprocess.run(
            ["ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False
        )
        return done.stdout.strip()[:120] or None
