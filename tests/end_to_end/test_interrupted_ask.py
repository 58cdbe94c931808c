import asyncio
import signal
import subprocess

import pytest
from front import Front, serving
from served import PATIENCE_S

from sightline.backends.fake import Reply

pytestmark = pytest.mark.live


def test_ctrl_c_ends_an_answer_without_a_traceback(sightline):
    with serving(Front()) as front:
        front.enqueue(Reply(["It begins", asyncio.Event()]))  # and nobody sets the event
        asking = subprocess.Popen(
            sightline.command("ask", "--url", front.url, "go on"),
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
