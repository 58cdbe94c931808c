"""Starting, dying, draining: real processes with a tiny random model that hardly ever stops."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import httpx2
import pytest
from served import PATIENCE_S, Served

pytestmark = pytest.mark.live

LONG = {"model": "tiny", "messages": [{"role": "user", "content": "go on"}], "max_tokens": 400}


def answer(served: Served, **fields: object) -> str:
    response = served.post(LONG | {"max_tokens": 5, "temperature": 0} | fields)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"]


@contextmanager
def streaming(served: Served, **fields: object) -> Iterator[Iterator[str]]:
    """Ask for a long answer; give its lines, the first of which has come."""
    url = f"{served.url}/v1/chat/completions"
    body = LONG | {"stream": True} | fields
    with httpx2.stream("POST", url, json=body, timeout=PATIENCE_S, trust_env=False) as stream:
        lines = stream.iter_lines()
        first = next(lines)
        yield chain([first], lines)


def text_of(events: list[str]) -> str:
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events]
    return "".join(delta.get("content", "") for delta in deltas)


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
        for _ in range(10):
            with streaming(served):
                pass
        began = time.monotonic()
        answer(served)
        whole = time.monotonic()
        answer(served, max_tokens=400)
        # The ten that left would have taken ten times as long as the last one; the factor between
        # is for a machine that does something else meanwhile.
        assert whole - began < 6 * (time.monotonic() - whole)


def test_a_drain_finishes_running_answers_and_ends_with_0(serve, tiny_folder: Path):
    with serve(str(tiny_folder)) as served:
        whole = answer(served, max_tokens=400)
        with streaming(served, temperature=0) as lines:
            served.process.send_signal(signal.SIGTERM)
            events = [line.removeprefix("data: ") for line in lines if line]
        assert events[-1] == "[DONE]"
        assert text_of(events[:-1]) == whole
        assert served.process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_idle_ends_with_0(number: signal.Signals, serve):
    with serve("--engine", "fake") as served:
        served.process.send_signal(number)
        assert served.process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_model_loads_ends_with_0(number: signal.Signals, sightline):
    starting = subprocess.Popen(
        sightline.command("serve", "--port", "0"),
        cwd=sightline.folder,
        env=sightline.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert starting.stderr is not None
    while b"still loading" not in starting.stderr.readline():
        assert starting.poll() is None
    starting.send_signal(number)
    _, errors = starting.communicate(timeout=PATIENCE_S)
    assert starting.returncode == 0
    assert b"Traceback" not in errors


def test_a_second_signal_ends_running_answers_at_once(serve, tiny_folder: Path):
    with serve(str(tiny_folder)) as served:
        with streaming(served) as lines:
            served.process.send_signal(signal.SIGTERM)
            served.wait_for_log("Stopping")
            served.process.send_signal(signal.SIGTERM)
            last = [line for line in lines if line][-1]
        assert "draining" in last or last == "data: [DONE]"
        assert served.process.wait(PATIENCE_S) == 0
