"""Many clients at once: exactly the admitted are served, and the idle cost nothing."""

import asyncio
import json
import resource
import socket
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from front import Front, RawAnswer, chat, eventually, raw_post, serving

from sightline.backends.fake import Reply
from sightline.core.limits import Limits

pytestmark = pytest.mark.live

NUM_CLIENTS = 2000
NUM_ADMITTED = 64
NUM_DESCRIPTORS = 6000  # both ends of every connection are in this process
QUESTION = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.fixture(autouse=True)
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < NUM_DESCRIPTORS:
        pytest.skip(f"only {hard} descriptors may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, NUM_DESCRIPTORS), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def ask(port: int, request: bytes) -> RawAnswer:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    data = await reader.read(-1)
    writer.close()
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return RawAnswer(int(lines[0].split()[1]), headers, body, 0.0)


def test_f11_of_2000_at_once_exactly_64_are_served_and_the_rest_is_refused_at_once():
    limits = Limits(max_running=NUM_ADMITTED, max_waiting=0)
    with serving(Front(limits=limits)) as front:
        gate = front.new_gate()
        front.enqueue(*[Reply(["go", gate, "od"]) for _ in range(NUM_ADMITTED)])
        refused: list[RawAnswer] = []

        async def client(index: int) -> RawAnswer:
            body = json.dumps(chat(f"question {index}")).encode()
            answer = await ask(front.port, raw_post(body))
            if answer.status == 429:
                refused.append(answer)
                # The admitted are let go when the last refusal is there: nobody waited for them.
                if len(refused) == NUM_CLIENTS - NUM_ADMITTED:
                    front.loop.call_soon_threadsafe(gate.set)
            return answer

        async def crowd() -> list[RawAnswer]:
            return await asyncio.gather(*(client(index) for index in range(NUM_CLIENTS)))

        answers = asyncio.run(crowd())
        assert Counter(answer.status for answer in answers) == {
            200: NUM_ADMITTED,
            429: NUM_CLIENTS - NUM_ADMITTED,
        }
        for answer in answers:
            if answer.status == 200:
                assert answer.json()["choices"][0]["message"]["content"] == "good"
            else:
                assert answer.json()["error"]["code"] == "queue_full"
                assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert eventually(front.is_idle)
        assert len(front.engine.requests) == NUM_ADMITTED


def seconds_of_canaries(fronts: list[Front], num_tries: int = 60) -> list[float]:
    """The quickest answer of each, asked in turn: this machine may be busy with others."""
    best = [float("inf")] * len(fronts)
    for _ in range(num_tries):
        for index, front in enumerate(fronts):
            began = time.monotonic()
            front.canary()
            best[index] = min(best[index], time.monotonic() - began)
    return best


def test_f14_2000_idle_connections_do_not_slow_a_request():
    limits = Limits(header_timeout_s=60)
    with serving(Front(limits=limits)) as front, serving(Front(limits=limits)) as empty:
        connections = []
        try:
            for _ in range(NUM_CLIENTS):
                connection = socket.create_connection(("127.0.0.1", front.port))
                connection.sendall(QUESTION)  # a good request, and then nothing
                connections.append(connection)
            for connection in connections:
                assert connection.recv(15).endswith(b"200 OK")
            crowded, alone = seconds_of_canaries([front, empty])
            assert crowded < 2 * alone
        finally:
            for connection in connections:
                connection.close()


def test_h11_2000_silent_connections_are_dropped_within_their_limit():
    with serving(Front(limits=Limits(header_timeout_s=1.0))) as front:
        connections = []
        for number in range(NUM_CLIENTS):
            connections.append(socket.create_connection(("127.0.0.1", front.port)))
            # At once: on a busy machine, the first would be dropped before the last is opened.
            if number % 2 == 0:
                connections[-1].sendall(b"POST /v1/chat")  # half a head, and then nothing
        try:
            assert front.canary()
            closed = time.monotonic() + 10
            for connection in connections:
                connection.settimeout(max(0.1, closed - time.monotonic()))
                while connection.recv(4096):
                    pass
        finally:
            for connection in connections:
                connection.close()
        assert front.get("/health/ready").status_code == 200
