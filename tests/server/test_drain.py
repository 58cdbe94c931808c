"""The end of a server: running answers finish, new ones are turned away, nobody waits for ever."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from front import PATIENCE_S, Front, chat, events_of, eventually, raw_post, serving
from starlette.types import Receive, Scope, Send

from sightline.backends.fake import Reply
from sightline.core.errors import StartupError
from sightline.core.limits import Limits
from sightline.server.lifecycle import Lifecycle
from sightline.server.serve import Server, bind


class Reader(threading.Thread):
    """Reads a stream to its end, in the background."""

    def __init__(self, front: Front) -> None:
        super().__init__(daemon=True)
        self._front = front
        self.text = ""
        self.has_begun = threading.Event()
        self.start()

    def run(self) -> None:
        url = self._front.url + "/v1/chat/completions"
        with self._front.client.stream("POST", url, json=chat("x", stream=True)) as answer:
            for piece in answer.iter_text():
                self.text += piece
                self.has_begun.set()


def test_a_drain_finishes_what_runs_and_refuses_what_comes() -> None:
    with serving(Front()) as front:
        gate = front.new_gate()
        front.enqueue(*[Reply(["begun ", gate, "done"])] * 8)
        readers = [Reader(front) for _ in range(8)]
        assert all(reader.has_begun.wait(PATIENCE_S) for reader in readers)

        front.on_loop(front.server.start_drain)
        for answer in (front.post(chat("x")), front.get("/health/ready")):
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "draining"
            assert answer.headers["retry-after"] == "1"
        assert front.get("/health/live").status_code == 200

        front.on_loop(gate.set)
        for reader in readers:
            reader.join(PATIENCE_S)
            *_, last, done = events_of(reader.text)
            assert last["choices"][0]["finish_reason"] == "stop"
            assert done == "[DONE]"
        assert front.ended.wait(PATIENCE_S)


def test_a_drain_of_an_idle_server_ends_at_once() -> None:
    with serving(Front()) as front:
        assert front.get("/health").status_code == 200  # leaves an idle connection
        started = time.monotonic()
        front.on_loop(front.server.start_drain)
        assert front.ended.wait(PATIENCE_S)
        assert time.monotonic() - started < 5


def test_a_request_that_was_still_uploading_is_told_to_go_elsewhere() -> None:
    with serving(Front()) as front:
        gate = front.new_gate()
        front.enqueue(Reply(["begun", gate]))
        reader = Reader(front)
        assert reader.has_begun.wait(PATIENCE_S)
        data = raw_post(b'{"model":"sightline-fake","messages":[{"role":"user","content":"x"}]}')
        with front.connect() as connection:
            connection.sendall(data[:-5])
            assert eventually(lambda: len(front.server.server_state.tasks) == 2)
            front.on_loop(front.server.start_drain)
            connection.sendall(data[-5:])
            assert b"503" in connection.recv(65536)
        front.on_loop(gate.set)
        reader.join(PATIENCE_S)


def end_by_event(front: Front, end: object) -> None:
    gate = front.new_gate()
    front.enqueue(Reply(["begun", gate]))
    reader = Reader(front)
    assert reader.has_begun.wait(PATIENCE_S)
    assert callable(end)
    end()
    reader.join(PATIENCE_S)
    assert events_of(reader.text)[-1]["error"]["code"] == "draining"
    assert front.ended.wait(PATIENCE_S)
    assert front.engine.requests[-1].outcome == "aborted"


def test_a_drain_that_takes_too_long_ends_answers_with_an_event() -> None:
    with serving(Front(limits=Limits(drain_timeout_s=0.2))) as front:
        end_by_event(front, lambda: front.on_loop(front.server.start_drain))


def test_a_second_signal_ends_answers_with_an_event() -> None:
    with serving(Front()) as front:

        def two_signals() -> None:
            front.server.handle_exit(signal.SIGTERM, None)
            front.server.handle_exit(signal.SIGTERM, None)

        end_by_event(front, two_signals)


def test_nothing_is_said_inside_a_signal_handler() -> None:
    """It may have interrupted a log line: printing there fails, and the signal would be lost."""
    said: list[bool] = []
    has_started = asyncio.Event()

    class Announcing(Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            has_started.set()

    async def nobody(scope: Scope, receive: Receive, send: Send) -> None: ...

    async def run() -> None:
        lifecycle = Lifecycle()
        server = Announcing(
            nobody, lifecycle=lifecycle, on_stopping=lambda: said.append(lifecycle.draining)
        )
        with bind("127.0.0.1", 0) as listener:
            running = asyncio.create_task(server.serve([listener]))
            await has_started.wait()
            server.handle_exit(signal.SIGTERM, None)
            assert said == []
            await running

    asyncio.run(run())
    assert said == [True]


def test_a_plain_answer_that_is_ended_is_503() -> None:
    with serving(Front(limits=Limits(drain_timeout_s=0.2))) as front:
        gate = front.new_gate()
        front.enqueue(Reply([gate]))
        answers: list[int] = []
        asking = threading.Thread(
            target=lambda: answers.append(front.post(chat("x")).status_code), daemon=True
        )
        asking.start()
        assert eventually(lambda: front.stats().num_running == 1)
        front.on_loop(front.server.start_drain)
        asking.join(PATIENCE_S)
        assert answers == [503]


def test_a_port_in_use_is_one_clear_line() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartupError, match=f"Port {port} on 127.0.0.1 is in use") as caught:
            bind("127.0.0.1", port)
    assert caught.value.code == "port_in_use"


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.host.invalid", "", "a" * 300, "\ud800"])
def test_a_host_that_is_not_ours_is_one_clear_line(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if host.endswith("invalid"):
        monkeypatch.setattr(socket, "getaddrinfo", _unknown_host)
    with pytest.raises(StartupError) as caught:
        bind(host, 0)
    assert caught.value.code == "bad_host"
    assert "\n" not in caught.value.message


def _unknown_host(*args: object, **options: object) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "unknown")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_local_hosts_can_be_bound(host: str) -> None:
    with bind(host, 0) as listener:
        assert listener.getsockname()[1] > 0


PROGRAM = """
import sys; sys.path.insert(0, {support!r})
import asyncio
import front as kit
from sightline.backends.fake import FakeEngine
from sightline.server.app import create_app
from sightline.server.lifecycle import Lifecycle
from sightline.server.serve import Server, bind
from sightline.service.chat import ChatService

async def main():
    service = ChatService(FakeEngine(step_s=0.02), kit.Pictures(), load_tokenizer=kit.ByteTokenizer)
    lifecycle = Lifecycle()
    app = create_app(service, lifecycle=lifecycle)
    with bind("127.0.0.1", 0) as listener:
        print(listener.getsockname()[1], flush=True)
        await Server(app, lifecycle=lifecycle).serve([listener])

asyncio.run(main())
"""


@pytest.mark.live
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_the_process_and_it_exits_with_0(number: int) -> None:
    program = PROGRAM.format(support=str(Path(__file__).parents[1] / "support"))
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            front = Front(port=int(process.stdout.readline()))
            with front.connect() as connection:
                body = b'{"model":"sightline-fake","stream":true,"messages":'
                body += b'[{"role":"user","content":"%s"}]}' % (b"x" * 40)
                connection.sendall(raw_post(body))
                data = connection.recv(65536)
                os.kill(process.pid, number)
                while piece := connection.recv(65536):
                    data += piece
            assert b"data: [DONE]\n\n" in data
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
