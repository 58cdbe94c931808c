"""A server that is still loading its model is waited for, by whoever asks it."""

import subprocess
from collections.abc import Iterator

import pytest
from front import Front, serving

from sightline.client.chat import Client


@pytest.fixture
def loading() -> Iterator[Front]:
    with serving(Front(engine_options={"loading": True})) as front:
        yield front


def test_a_server_says_whether_it_is_there_and_ready(loading: Front) -> None:
    with Client(loading.url) as client, Client("http://127.0.0.1:9") as nobody:
        assert client.state(timeout_s=5) == "loading"
        loading.on_loop(loading.engine.finish_loading)
        assert client.state(timeout_s=5) == "ready"
        loading.on_loop(loading.lifecycle.start_drain)
        assert client.state(timeout_s=5) == "away"
        assert nobody.state(timeout_s=5) == "away"


def test_it_is_waited_for_and_that_is_told_once(loading: Front) -> None:
    waits = []

    def hear() -> None:
        waits.append(len(waits))
        loading.on_loop(loading.engine.finish_loading)

    with Client(loading.url) as client:
        assert client.wait_while_loading(timeout_s=5, on_wait=hear) == "ready"
        assert client.wait_while_loading(timeout_s=5, on_wait=hear) == "ready"
    assert waits == [0]


@pytest.mark.parametrize("words", [("ask", "hello"), ("bench", "URL", "--requests", "1")])
def test_the_commands_wait(sightline, loading: Front, words: tuple[str, ...]) -> None:
    command = sightline.command(*(loading.url if word == "URL" else word for word in words))
    environ = sightline.environ | {"SIGHTLINE_URL": loading.url}
    with subprocess.Popen(
        command, cwd=sightline.folder, env=environ, text=True, stderr=subprocess.PIPE
    ) as running:
        assert running.stderr is not None
        told = running.stderr.readline()
        assert told == f"The server at {loading.url} is loading its model; waiting for it.\n"
        loading.on_loop(loading.engine.finish_loading)
        rest = running.stderr.read()
    assert running.returncode == 0, rest
    assert "waiting for it" not in rest
