"""An engine's process that is there before it is known what it has to do."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sightline.backends import launch

PATIENCE_S = 60
FRONT = """
import os, signal, sys, time
from pathlib import Path
from sightline.backends.launch import launch_ahead
print(launch_ahead(None).pid, flush=True)
while not Path(sys.argv[1]).exists():
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_waiting_process_ends_with_who_started_it() -> None:
    with launch.launch_ahead(1) as waiting:
        assert waiting.stdin is not None
        waiting.stdin.close()
        assert waiting.wait(PATIENCE_S) == 0


def test_a_process_is_started_although_the_working_directory_was_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    with launch.launch_ahead(1) as waiting:
        assert waiting.stdin is not None
        waiting.stdin.close()
        assert waiting.wait(PATIENCE_S) == 0


def test_a_waiting_process_takes_its_arguments() -> None:
    """It says what is missing of them, as one does that is started with them."""
    with launch.tell(launch.launch_ahead(1), ["--commands=ipc://nowhere"]) as waiting:
        assert waiting.wait(PATIENCE_S) == 2


def test_in_the_place_of_one_that_is_gone_another_is_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[list[str]] = []
    gone = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE)
    gone.wait(PATIENCE_S)
    monkeypatch.setattr(launch, "launch", lambda arguments: started.append([*arguments]) or gone)
    launch.tell(gone, ["--journal=here"])
    assert started == [["--journal=here"]]


def test_what_the_environment_asks_of_the_allocator_stands() -> None:
    ours = launch.tunables("").split(":")
    assert "glibc.malloc.hugetlb=1" in ours
    assert launch.tunables("glibc.pthread.rseq=0").split(":") == ["glibc.pthread.rseq=0", *ours]
    asked = launch.tunables("glibc.malloc.hugetlb=0").split(":")
    assert asked == ["glibc.malloc.hugetlb=0", *(each for each in ours if "hugetlb" not in each)]


def test_a_process_is_started_with_what_the_allocator_is_asked() -> None:
    with launch.launch(["--help"]) as process:
        environment = b""
        while not environment and process.poll() is None:  # the kernel is still laying it out
            environment = Path(f"/proc/{process.pid}/environ").read_bytes()
        assert process.wait(PATIENCE_S) == 0
    assert b"\0GLIBC_TUNABLES=glibc.malloc." in environment


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it ends when torch is loaded")
def test_a_waiting_process_ends_with_the_front_even_while_it_loads_torch(tmp_path: Path) -> None:
    loading = tmp_path / "loading"
    (tmp_path / "torch.py").write_text(
        f"import time\nopen({str(loading)!r}, 'w').close()\ntime.sleep({2 * PATIENCE_S})\n"
    )
    front = subprocess.run(
        [sys.executable, "-c", FRONT, str(loading)],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        timeout=PATIENCE_S,
        check=False,
    )
    deadline = time.monotonic() + PATIENCE_S
    while is_running(int(front.stdout)):
        assert time.monotonic() < deadline, "it outlives the front"
        time.sleep(0.01)
