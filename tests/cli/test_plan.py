"""What is served and to whom, decided before anything is loaded."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from weight_bytes import safetensors

from sightline.core.errors import StartupError
from sightline.plan import Listener, Plan, plan
from sightline.settings import resolve


@pytest.fixture
def bound() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What passes for a model folder until somebody reads the weights."""
    found = tmp_path / "glm"
    found.mkdir()
    (found / "config.json").write_text('{"model_type": "chatglm"}')
    (found / "tokenizer.model").touch()
    (found / "model.safetensors").write_bytes(safetensors(b""))
    return found


def plan_of(bound: socket.socket, **flags: object) -> Plan:
    settings = resolve({"engine": "fake"} | flags, environ={})
    return plan(settings, Listener(bound, settings.server.host))


def test_on_loopback_no_key_is_made(bound):
    decided = plan_of(bound)
    assert (decided.api_keys, decided.new_api_key) == ((), None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "myhost"])
def test_open_to_the_network_a_key_is_made(host, bound):
    decided = plan_of(bound, host=host)
    assert decided.new_api_key is not None
    assert len(decided.new_api_key) > 40
    assert decided.api_keys == (decided.new_api_key,)
    assert decided.new_api_key not in repr(decided)
    assert plan_of(bound, host=host).new_api_key != decided.new_api_key


def test_a_key_that_was_given_is_the_only_one(bound):
    decided = plan_of(bound, host="0.0.0.0", api_key=["mine"])
    assert (decided.api_keys, decided.new_api_key) == (("mine",), None)


def test_the_first_served_name_is_the_models_own(bound):
    decided = plan_of(bound, served_model_name=["cat", "dog"])
    assert (decided.model_id, decided.aliases) == ("cat", ("dog",))


def test_a_folder_is_served_under_its_own_name_alone(bound, folder):
    decided = plan_of(bound, engine="process", model=str(folder))
    assert (decided.model_id, decided.aliases) == ("glm", ())


def test_a_model_is_found_by_name(bound, folder):
    decided = plan_of(bound, engine="process", model="glm", model_dir=[str(folder.parent)])
    assert decided.folder == folder


def test_a_missing_model_is_refused(bound):
    with pytest.raises(StartupError, match="There is no model folder"):
        plan_of(bound, engine="process", model="nowhere")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:"),
        ("0.0.0.0", "http://127.0.0.1:"),
        ("::1", "http://[::1]:"),
    ],
)
def test_the_address_shown_can_be_used_on_this_machine(host, url, bound):
    assert Listener(bound, host).url.startswith(url)
