"""The OpenAPI document knows every path and field, and what it promises is what happens."""

from typing import Any

import jsonschema
import pytest
from front import Front, serving
from starlette.routing import Route

from sightline.core.limits import Limits
from sightline.server.anthropic.schema import MessagesBody
from sightline.server.app import create_app
from sightline.server.completions.schema import CompletionBody
from sightline.server.ollama.schema import OllamaChatBody, OllamaGenerateBody
from sightline.server.openai.schema import Body, ChatBody
from sightline.server.openapi.document import openapi_document
from sightline.server.openapi.endpoints import ENDPOINTS, Endpoint
from sightline.server.responses.schema import ResponsesBody
from sightline.server.tokens.schema import DetokenizeBody

DOCUMENT = openapi_document(Limits(), model="sightline-fake", needs_key=False)
SCHEMAS = DOCUMENT["components"]["schemas"]
# Taken, but only to be refused or ignored by name; the prose tells.
UNTOLD = {
    "ResponsesBody": {"stream_options", "previous_response_id", "conversation", "prompt"},
    "MessagesBody": {"output_config", "output_format", "service_tier"},
    "OllamaGenerateBody": {"suffix", "template", "context"},
    "ChatBody": {"reasoning_format"},
}


def validate(value: Any, name: str) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(schema).validate(value)


def of(endpoint: Endpoint) -> dict[str, Any]:
    return DOCUMENT["paths"][endpoint.path][endpoint.method]


def test_the_document_is_served_with_the_models_name(front: Front) -> None:
    served = front.get("/openapi.json").json()
    assert served == DOCUMENT
    assert served["openapi"] == "3.1.0"


def test_every_path_of_the_app_is_in_the_document_and_no_other(shared_front: Front) -> None:
    routed = set()
    for route in create_app(shared_front.service).routes:
        assert isinstance(route, Route)
        path = route.path.replace("{name:path}", "{name}").removeprefix("/v1")
        routed |= {(path, method.lower()) for method in route.methods} - {(path, "head")}
    told = {
        (path.removeprefix("/v1"), method)
        for path, methods in DOCUMENT["paths"].items()
        for method in methods
    }
    assert told == routed


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_one(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])
    for wanted in _refs(SCHEMAS[name]):
        assert wanted.removeprefix("#/components/schemas/") in SCHEMAS


def _refs(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [found for part in value.values() for found in _refs(part)]
    if isinstance(value, list):
        return [found for part in value for found in _refs(part)]
    return []


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (ChatBody, "ChatRequest"),
        (CompletionBody, "CompletionRequest"),
        (ResponsesBody, "ResponseRequest"),
        (MessagesBody, "AnthropicRequest"),
        (OllamaChatBody, "OllamaChatRequest"),
        (OllamaGenerateBody, "OllamaGenerateRequest"),
        (DetokenizeBody, "DetokenizeRequest"),
    ],
)
def test_every_field_that_is_used_is_in_its_schema(body: type[Body], name: str) -> None:
    used = set(body.model_fields) - UNTOLD.get(body.__name__, set())
    assert used <= set(SCHEMAS[name]["properties"])


@pytest.mark.parametrize("endpoint", [e for e in ENDPOINTS if e.example], ids=lambda e: e.name)
def test_every_example_works_and_its_answer_is_as_promised(
    front: Front, endpoint: Endpoint
) -> None:
    content = of(endpoint)["requestBody"]["content"]["application/json"]
    example = content["examples"]["simple"]["value"]
    assert endpoint.request is not None
    assert endpoint.answer is not None
    validate(example, endpoint.request)
    answer = front.post(example, path=endpoint.path)
    assert answer.status_code == 200, answer.text
    validate(answer.json(), endpoint.answer)


@pytest.mark.parametrize(
    "endpoint",
    [e for e in ENDPOINTS if e.method == "get" and e.answer and "{" not in e.path],
    ids=lambda e: e.name,
)
def test_what_is_read_is_as_promised(front: Front, endpoint: Endpoint) -> None:
    answer = front.get(endpoint.path)
    assert answer.status_code == 200
    assert endpoint.answer is not None
    validate(answer.json(), endpoint.answer)


@pytest.mark.parametrize("endpoint", [e for e in ENDPOINTS if e.request], ids=lambda e: e.name)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"{}", b'{"model":{}}'])
def test_every_refusal_is_in_its_form(front: Front, endpoint: Endpoint, body: bytes) -> None:
    answer = front.post(body, path=endpoint.path)
    assert 400 <= answer.status_code < 500, answer.text
    assert str(answer.status_code) in of(endpoint)["responses"]
    validate(answer.json(), endpoint.errors)


@pytest.mark.parametrize("endpoint", [e for e in ENDPOINTS if e.stream], ids=lambda e: e.name)
def test_a_stream_comes_as_the_type_that_was_promised(front: Front, endpoint: Endpoint) -> None:
    content = of(endpoint)["requestBody"]["content"]["application/json"]
    example = content["examples"]["simple"]["value"] | {"stream": True}
    answer = front.post(example, path=endpoint.path)
    assert answer.headers["content-type"].partition(";")[0] == endpoint.stream_type
    assert endpoint.stream_type in of(endpoint)["responses"]["200"]["content"]


def test_with_keys_the_document_asks_for_one_and_is_behind_it() -> None:
    with serving(Front(server_options={"api_keys": ("sl-1",)})) as front:
        assert front.get("/openapi.json").status_code == 401
        served = front.get("/openapi.json", headers={"authorization": "Bearer sl-1"}).json()
        assert served["security"] == [{"bearer": []}]
        assert served["paths"]["/health"]["get"]["security"] == [{}]


def test_while_the_model_loads_there_is_a_document_already() -> None:
    with serving(Front(engine_options={"loading": True})) as front:
        assert front.get("/openapi.json").status_code == 200
        front.on_loop(front.engine.finish_loading)
