"""The models list, and what an operator's probes see."""

import pytest
from front import Front, chat, serving

import sightline
from sightline.backends.fake import fake_info
from sightline.service.chat import ChatOptions


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/v1//models/"])
def test_the_list_has_the_model_with_what_it_can_do(front: Front, path: str) -> None:
    listed = front.get(path).json()
    assert listed["object"] == "list"
    (model,) = listed["data"]
    assert model["id"] == "sightline-fake"
    assert model["object"] == "model"
    assert model["max_model_len"] == 4096
    assert model["sightline"]["input_modalities"] == ["text", "image"]
    assert model["sightline"]["tokens_per_image"] == 18


def test_an_unknown_model_is_404_and_says_what_there_is(front: Front) -> None:
    answer = front.get("/v1/models/gpt-4o")
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == (
        "The model 'gpt-4o' does not exist. Available: sightline-fake."
    )


def test_ids_with_slashes_and_aliases_are_found() -> None:
    front = Front(
        engine_options={"info": fake_info(model_id="zai-org/glm-4v-9b", aliases=("glm-4v",))}
    )
    with serving(front):
        for name in ("zai-org/glm-4v-9b", "glm-4v", "zai-org%2Fglm-4v-9b"):
            for prefix in ("/v1", ""):
                answer = front.get(f"{prefix}/models/{name}")
                assert answer.status_code == 200, name
                assert answer.json()["id"] == "zai-org/glm-4v-9b"
        answer = front.post(chat("x") | {"model": "glm-4v"})
        assert answer.json()["model"] == "zai-org/glm-4v-9b"


def test_the_served_name_is_the_models_name() -> None:
    with serving(Front(chat_options=ChatOptions(served_name="mine"))) as front:
        assert front.get("/v1/models").json()["data"][0]["id"] == "mine"
        assert front.post(chat("x") | {"model": "mine"}).json()["model"] == "mine"


def test_a_text_only_model_says_so_and_refuses_images() -> None:
    with serving(Front(engine_options={"info": fake_info(image_policy=None)})) as front:
        (model,) = front.get("/v1/models").json()["data"]
        assert model["sightline"]["input_modalities"] == ["text"]
        error = front.post(chat("x", "data:")).json()["error"]
        assert error["code"] == "image_input_not_supported"
        assert error["param"] == "messages[0].content[0].image_url"


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/ready", "/health/live"])
def test_probes_are_answered(front: Front, path: str) -> None:
    assert front.get(path).status_code == 200
    head = front.request("HEAD", path)
    assert head.status_code == 200
    assert head.content == b""


def test_the_version_is_told(front: Front) -> None:
    assert front.get("/version").json() == {"name": "sightline", "version": sightline.__version__}


def test_while_the_model_loads_the_server_lives_but_is_not_ready() -> None:
    with serving(Front(engine_options={"loading": True})) as front:
        assert front.get("/health/live").status_code == 200
        for answer in (
            front.get("/health"),
            front.get("/ready"),
            front.get("/v1/models"),
            front.post(chat("x")),
            front.post(chat("x", stream=True)),
        ):
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "model_loading"
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["retry-after-ms"] == "1000"
            assert "x-should-retry" not in answer.headers
        front.on_loop(front.engine.finish_loading)
        assert front.get("/ready").status_code == 200
        assert front.post(chat("x")).status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("path", ["/", "/v2/chat", "/v1", "/v1/nothing"])
def test_an_unknown_path_is_404_in_openai_form(front: Front, method: str, path: str) -> None:
    answer = front.request(method, path)
    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "message": f"Unknown request URL: {method} {path}. Try /v1/chat/completions.",
        "type": "invalid_request_error",
        "param": None,
        "code": "unknown_url",
    }


def test_an_unknown_path_is_quoted_shortly(front: Front) -> None:
    message = front.get("/" + "x" * 5000).json()["error"]["message"]
    assert len(message) < 300
