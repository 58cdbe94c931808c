"""Starting, dying, draining: real processes with a tiny random model that hardly ever stops."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import httpx2
import pytest
from served import PATIENCE_S, Served

pytestmark = pytest.mark.live

LONG = {"model": "tiny", "messages": [{"role": "user", "content": "go on"}], "max_tokens": 400}


@pytest.fixture(scope="module")
def tiny(serve, tiny_folder: Path):
    with serve(str(tiny_folder)) as served:
        yield served


def answer(served: Served, **fields: object) -> str:
    response = served.post(LONG | {"max_tokens": 5, "temperature": 0} | fields)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"]


def test_a_killed_engine_is_replaced_and_answers_the_same(serve, tiny_folder: Path):
    with serve(str(tiny_folder)) as served:
        before = answer(served)
        first = served.engine_pid()
        os.kill(first, signal.SIGKILL)
        served.wait_until_ready()
        assert answer(served) == before
        assert served.engine_pid() != first
        assert served.process.poll() is None


def test_a_client_that_leaves_frees_the_engine(serve, tiny_folder: Path):
    with serve(str(tiny_folder), "--limit", "max_running=1") as served:
        url = f"{served.url}/v1/chat/completions"
        for _ in range(10):
            with httpx2.stream("POST", url, json=LONG | {"stream": True}, timeout=60) as stream:
                next(stream.iter_bytes())
        began = time.monotonic()
        answer(served)
        whole = time.monotonic()
        answer(served, max_tokens=400)
        # The ten that left would have taken ten times as long as the last one.
        assert whole - began < 3 * (time.monotonic() - whole)


def test_a_drain_finishes_running_answers_and_ends_with_0(serve, tiny_folder: Path):
    with serve(str(tiny_folder)) as served:
        url = f"{served.url}/v1/chat/completions"
        with httpx2.stream("POST", url, json=LONG | {"stream": True}, timeout=60) as stream:
            lines = stream.iter_lines()
            next(lines)
            served.process.send_signal(signal.SIGTERM)
            events = [line.removeprefix("data: ") for line in lines if line]
        assert events[-1] == "[DONE]"
        assert json.loads(events[-2])["choices"][0]["finish_reason"] == "length"
        assert served.process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_idle_ends_with_0(number: signal.Signals, serve):
    with serve("--engine", "fake") as served:
        served.process.send_signal(number)
        assert served.process.wait(PATIENCE_S) == 0


def test_a_second_signal_ends_running_answers_at_once(serve, tiny_folder: Path):
    with serve(str(tiny_folder)) as served:
        ended = threading.Event()
        url = f"{served.url}/v1/chat/completions"
        with httpx2.stream("POST", url, json=LONG | {"stream": True}, timeout=60) as stream:
            lines = stream.iter_lines()
            next(lines)
            served.process.send_signal(signal.SIGTERM)
            while not any("Stopping" in line for line in served.log):
                next(lines)
            served.process.send_signal(signal.SIGTERM)
            last = [line for line in lines if line][-1]
            ended.set()
        assert "draining" in last or last == "data: [DONE]"
        assert served.process.wait(PATIENCE_S) == 0
