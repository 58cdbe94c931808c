"""Section 7 of the API's description: every endpoint and every way to write its path."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from front import PICTURE, Front, chat, serving

from sightline.backends.fake import Reply, fake_info
from sightline.core.errors import InternalError
from sightline.playground.site import Site

KEY = "sl-of-the-rows"
ANTHROPIC = {"model": "sightline-fake", "max_tokens": 5, "messages": chat("q")["messages"]}
ENDPOINTS: list[tuple[str, str, Any]] = [
    ("POST", "/v1/chat/completions", chat("q")),
    ("GET", "/v1/models", None),
    ("GET", "/v1/models/sightline-fake", None),
    ("POST", "/v1/completions", {"model": "sightline-fake", "prompt": "q"}),
    ("GET", "/health", None),
    ("GET", "/metrics", None),
    ("GET", "/version", None),
    ("POST", "/v1/chat/completions/input_tokens", chat("q")),
    ("POST", "/v1/responses", {"model": "sightline-fake", "input": "q"}),
    ("POST", "/v1/responses/input_tokens", {"model": "sightline-fake", "input": "q"}),
    ("POST", "/v1/messages", ANTHROPIC),
    ("POST", "/v1/messages/count_tokens", ANTHROPIC),
]


@pytest.mark.parametrize(("method", "path", "body"), ENDPOINTS, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("spelling", ["as told", "without v1", "with slashes"])
def test_section_7_endpoint(front: Front, method: str, path: str, body: Any, spelling: str) -> None:
    if spelling == "without v1":
        path = path.removeprefix("/v1")
    elif spelling == "with slashes":
        path = path.replace("/", "//") + "/"
    content = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    assert front.request(method, path, content=content, headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/rerank"])
def test_section_7_endpoints_of_other_models_are_unknown_and_say_why(
    front: Front, path: str
) -> None:
    answer = front.post({}, path=path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")
    assert "No model for" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "path", ["/v1/decisions", "/v1/systemone", "/v1/files", "/v1/batches", "/v1/audio/speech"]
)
def test_section_7_endpoints_that_are_not_there_are_unknown(front: Front, path: str) -> None:
    answer = front.post({}, path=path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")


@pytest.fixture(scope="module")
def guarded() -> Iterator[Front]:
    with serving(Front(server_options={"api_keys": (KEY,)}, site=Site())) as front:
        yield front


@pytest.mark.parametrize(
    "path",
    ["/models", "/v1/models", "//v1//models", "/metrics", "/docs", "/openapi.json", "/api/tags"],
)
def test_section_7_keys_guard_aliases_metrics_and_docs_alike(guarded: Front, path: str) -> None:
    assert guarded.get(path).status_code == 401
    assert guarded.get(path, headers={"authorization": f"Bearer {KEY}"}).status_code == 200


def test_section_7_docs_ask_a_person_for_the_key(guarded: Front) -> None:
    answer = guarded.get("/docs", headers={"accept": "text/html,*/*;q=0.8"})
    assert answer.status_code == 401
    assert answer.headers["content-type"].startswith("text/html")
    assert "docs_page.js" in answer.text


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/version"])
def test_section_7_health_and_version_need_no_key(guarded: Front, path: str) -> None:
    assert guarded.get(path).status_code == 200


def test_section_7_cors_is_closed_by_default(front: Front) -> None:
    for origin in ("http://127.0.0.1:9", "http://localhost"):
        answer = front.get("/v1/models", headers={"origin": origin})
        assert not any(name.startswith("access-control-") for name in answer.headers)


def test_section_7_model_ids_may_contain_slashes() -> None:
    info = fake_info(model_id="org/name")
    with serving(Front(engine_options={"info": info})) as front:
        for path in ("/v1/models/org/name", "/models/org%2Fname"):
            assert front.get(path).json()["id"] == "org/name"


def test_section_7_live_at_once_and_ready_when_the_model_serves() -> None:
    with serving(Front(engine_options={"loading": True})) as front:
        assert front.get("/health/live").status_code == 200
        for path in ("/health", "/health/ready"):
            answer = front.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_loading")
            assert answer.headers["retry-after"]
        front.on_loop(front.engine.finish_loading)
        assert front.get("/health").status_code == 200


def test_section_7_input_tokens_counts_images_of_the_same_body(front: Front) -> None:
    body = chat("q", PICTURE)
    counted = front.post(body, path="/v1/chat/completions/input_tokens").json()
    assert counted["image_tokens"] == 18
    assert counted["input_tokens"] == front.post(body).json()["usage"]["prompt_tokens"]


@pytest.mark.parametrize("prompt", ["q", ["q", "r"], [113], [[113], [114]]], ids=str)
def test_section_7_completions_take_a_string_a_list_or_token_ids(
    front: Front, prompt: object
) -> None:
    body = {"model": "sightline-fake", "prompt": prompt}
    choices = front.post(body, path="/v1/completions").json()["choices"]
    assert len(choices) == (2 if isinstance(prompt, list) and prompt != [113] else 1)


@pytest.mark.parametrize(("field", "value"), [("suffix", "x"), ("echo", True)])
def test_section_7_completions_refuse_suffix_and_echo(
    front: Front, field: str, value: object
) -> None:
    body = {"model": "sightline-fake", "prompt": "q", field: value}
    error = front.post(body, path="/v1/completions").json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_parameter", field)


def test_section_7_completions_take_no_images(front: Front) -> None:
    body = {"model": "sightline-fake", "prompt": [{"type": "image_url", "image_url": PICTURE}]}
    answer = front.post(body, path="/v1/completions")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prompt[0]")


def test_section_7_responses_are_stateless(front: Front) -> None:
    body = {"model": "sightline-fake", "input": "q", "store": True}
    answer = front.post(body, path="/v1/responses")
    assert answer.status_code == 200
    assert "store=nothing-is-kept" in answer.headers["x-sightline-warnings"]
    kept = front.get(f"/v1/responses/{answer.json()['id']}")
    assert kept.json()["error"]["code"] == "response_not_found"


def response_events(front: Front, *pieces: str, **fields: Any) -> list[dict[str, Any]]:
    front.enqueue(Reply(list(pieces)))
    body = {"model": "sightline-fake", "input": "q", "stream": True, **fields}
    text = front.post(body, path="/v1/responses").text
    events = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def test_section_7_responses_stream_tells_thoughts_words_and_their_order(front: Front) -> None:
    events = response_events(front, "<think>hm</think>yes")
    names = [event["type"].removeprefix("response.") for event in events]
    steps = [name for n, name in enumerate(names) if n == 0 or names[n - 1] != name]
    assert steps == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    ids = {event["response"]["id"] for event in events if "response" in event}
    assert len(ids) == 1


def test_section_7_responses_stream_items_have_unique_places_and_end_as_they_began(
    front: Front,
) -> None:
    events = response_events(front, "<think>hm</think>yes")
    added = [e for e in events if e["type"] == "response.output_item.added"]
    done = [e for e in events if e["type"] == "response.output_item.done"]
    assert [e["output_index"] for e in added] == [0, 1] == [e["output_index"] for e in done]
    assert [e["item"]["id"] for e in added] == [e["item"]["id"] for e in done]


def test_section_7_responses_stream_tells_calls(front: Front) -> None:
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    events = response_events(front, "f\n{}", tools=[tool])
    told = [e for e in events if "function_call_arguments" in e["type"]]
    assert told[-1]["type"] == "response.function_call_arguments.done"
    assert "".join(e["delta"] for e in told[:-1]) == told[-1]["arguments"] == "{}"


def test_section_7_responses_stream_may_end_incomplete_or_failed(front: Front) -> None:
    assert response_events(front, "long", max_output_tokens=1)[-1]["type"] == "response.incomplete"
    front.enqueue(Reply(["half"], error=InternalError()))
    body = {"model": "sightline-fake", "input": "q", "stream": True}
    last = front.post(body, path="/v1/responses").text.removesuffix("\n\n").split("\n\n")[-1]
    failed = json.loads(last.split("\n")[1].removeprefix("data: "))
    assert failed["type"] == "response.failed"
    assert failed["response"]["error"].keys() == {"code", "message"}
