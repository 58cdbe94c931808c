"""A server with many streams at once: it is told to stop, its engine is killed."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
from served import PATIENCE_S, Served

pytestmark = [pytest.mark.engine, pytest.mark.live, pytest.mark.timeout(600)]

NUM_STREAMS, NUM_WHOLE = 64, 4
NEVER_STOPS = {str(token): -100 for token in (256, 263, 265)}


@dataclass
class Heard:
    """What one stream said: its text, the errors in it, and whether it ended properly."""

    text: str = ""
    errors: list[str] = field(default_factory=list)
    is_done: bool = False


def listen(
    client: httpx2.Client, number: int, heard: Heard, begun: threading.Barrier, max_tokens: int
) -> None:
    body = {
        "model": "glm-4v",
        "messages": [{"role": "user", "content": f"question number {number}"}],
        "max_tokens": max_tokens,
        "stream": True,
        "temperature": 0,
        "logit_bias": NEVER_STOPS,
    }
    has_begun = False
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.status_code == 200
        for line in response.iter_lines():
            if line == "data: [DONE]":
                heard.is_done = True
            elif line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                if "error" in event:
                    heard.errors.append(event["error"]["code"])
                elif event["choices"]:
                    heard.text += event["choices"][0]["delta"].get("content") or ""
                    if not has_begun:
                        begun.wait(PATIENCE_S)
                        has_begun = True


@contextmanager
def full_house(served: Served, *, max_tokens: int) -> "Iterator[list[Heard]]":
    """Yield what is heard by streams that have all begun to speak; wait for their ends."""
    begun = threading.Barrier(NUM_STREAMS + 1)
    heard = [Heard() for _ in range(NUM_STREAMS)]
    limits = httpx2.Limits(max_connections=NUM_STREAMS)
    with (
        # One client for all: to make one takes as long as some answers here.
        httpx2.Client(
            base_url=served.url, trust_env=False, timeout=PATIENCE_S, limits=limits
        ) as client,
        ThreadPoolExecutor(NUM_STREAMS) as pool,
    ):
        for number, one in enumerate(heard):
            pool.submit(listen, client, number, one, begun, max_tokens)
        begun.wait(PATIENCE_S)
        yield heard


def wait_until_running(served: Served, number: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    with httpx2.Client(base_url=served.url, trust_env=False) as client:
        while True:
            found = re.search(r"num_requests_running\S* (\d+)", client.get("/metrics").text)
            if found and int(found[1]) == number:
                return
            assert time.monotonic() < deadline, f"never {number} at once: {found}"


def test_a_server_that_is_told_to_stop_finishes_what_it_says(serve, tiny_folder: Path) -> None:
    with serve(
        str(tiny_folder), "--served-model-name", "glm-4v", "--limit", "drain_timeout_s=120"
    ) as served:
        with full_house(served, max_tokens=100) as heard:
            served.process.send_signal(signal.SIGTERM)
        assert [one.errors for one in heard] == [[]] * NUM_STREAMS
        assert all(one.is_done for one in heard)
        assert served.process.wait(PATIENCE_S) == 0


def test_streams_of_a_killed_engine_end_with_one_error_event_and_whole_answers_come(
    serve, tiny_folder: Path
) -> None:
    # All run at once, and none comes near its end before the last has begun.
    with serve(
        str(tiny_folder), "--served-model-name", "glm-4v", "--max-num-seqs", "128"
    ) as served:
        with ThreadPoolExecutor(NUM_WHOLE) as pool, full_house(served, max_tokens=400) as heard:
            whole = [
                pool.submit(served.ask, f"whole {number}", max_tokens=400, logit_bias=NEVER_STOPS)
                for number in range(NUM_WHOLE)
            ]
            wait_until_running(served, NUM_STREAMS + NUM_WHOLE)
            os.kill(served.engine_pid(), signal.SIGKILL)
            assert all(answer.result() for answer in whole)
        assert [one.errors for one in heard] == [["engine_restarting"]] * NUM_STREAMS
        assert not any(one.is_done for one in heard)
        served.wait_until_ready()
        assert served.ask("hello", max_tokens=4, logit_bias=NEVER_STOPS)
