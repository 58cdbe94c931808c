"""A server with many streams at once: it is told to stop, its engine is killed."""

import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
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


def listen(served: Served, number: int, heard: Heard, begun: "threading.Barrier | None") -> Heard:
    body = {
        "model": "glm-4v",
        "messages": [{"role": "user", "content": f"question number {number}"}],
        "max_tokens": 100,
        "stream": True,
        "temperature": 0,
        "logit_bias": NEVER_STOPS,
    }
    with (
        httpx2.Client(trust_env=False, timeout=PATIENCE_S) as client,
        client.stream("POST", f"{served.url}/v1/chat/completions", json=body) as response,
    ):
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
                    if begun is not None:
                        begun.wait(PATIENCE_S)
                        begun = None
    return heard


def full_house(served: Served, pool: ThreadPoolExecutor) -> "list[Heard]":
    """Return what is heard by streams that have all begun to speak."""
    begun = threading.Barrier(NUM_STREAMS + 1)
    heard = [Heard() for _ in range(NUM_STREAMS)]
    for number, one in enumerate(heard):
        pool.submit(listen, served, number, one, begun)
    begun.wait(PATIENCE_S)
    return heard


def test_a_server_that_is_told_to_stop_finishes_what_it_says(serve, tiny_folder: Path) -> None:
    with serve(
        str(tiny_folder), "--served-model-name", "glm-4v", "--limit", "drain_timeout_s=120"
    ) as served:
        with ThreadPoolExecutor(NUM_STREAMS) as pool:
            heard = full_house(served, pool)
            served.process.send_signal(signal.SIGTERM)
        assert [one.errors for one in heard] == [[]] * NUM_STREAMS
        assert all(one.is_done for one in heard)
        assert served.process.wait(PATIENCE_S) == 0


def test_streams_of_a_killed_engine_end_with_one_error_event_and_whole_answers_come(
    serve, tiny_folder: Path
) -> None:
    with serve(str(tiny_folder), "--served-model-name", "glm-4v") as served:
        with ThreadPoolExecutor(NUM_STREAMS + NUM_WHOLE) as pool:
            whole = [
                pool.submit(served.ask, f"whole {number}", max_tokens=100, logit_bias=NEVER_STOPS)
                for number in range(NUM_WHOLE)
            ]
            heard = full_house(served, pool)
            os.kill(served.engine_pid(), signal.SIGKILL)
            assert all(answer.result() for answer in whole)
        ended = [one for one in heard if one.is_done]  # they were faster
        cut = [one for one in heard if not one.is_done]
        assert len(cut) > NUM_STREAMS // 2 or len(ended) == NUM_STREAMS
        assert [one.errors for one in cut] == [["engine_restarting"]] * len(cut)
        served.wait_until_ready()
        assert served.ask("hello", max_tokens=4)
