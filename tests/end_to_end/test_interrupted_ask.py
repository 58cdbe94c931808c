import signal
import subprocess
from pathlib import Path

import pytest
from served import PATIENCE_S

pytestmark = pytest.mark.live


def test_ctrl_c_ends_an_answer_without_a_traceback(serve, sightline, tiny_folder: Path):
    with serve(str(tiny_folder)) as served:
        asking = subprocess.Popen(
            sightline.command(
                "ask", "--url", served.url, "--max-tokens", "400", "--temperature", "0", "go on"
            ),
            env=sightline.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert asking.stdout is not None
        asking.stdout.read(1)
        asking.send_signal(signal.SIGINT)
        _, errors = asking.communicate(timeout=PATIENCE_S)
        assert asking.returncode == 130
        assert errors == b"\n"
