"""The whole document, for one model and the limits of one server."""

import json
from typing import Any

import sightline
from sightline.core.limits import Limits
from sightline.server.openapi import (
    anthropic,
    chat_answers,
    chat_requests,
    ollama,
    others,
    responses,
)
from sightline.server.openapi.endpoints import ENDPOINTS, MODEL, Endpoint
from sightline.server.openapi.shapes import ref

Json = dict[str, Any]

_ERRORS = {
    400: "The request cannot be served as it is; `param` says where.",
    401: "The key is missing or wrong.",
    403: "The key lacks the right, or the host is refused.",
    404: "There is no such path, model or object.",
    408: "The request came too slowly.",
    411: "The length is missing.",
    413: "The body is over its limit.",
    414: "The URL is over its limit.",
    415: "The body is not plain JSON.",
    429: "The queue is full, or a rate is spent; `retry-after` says when to come again.",
    431: "The headers are over their limit.",
    500: "A failure of the server; never worth a retry.",
    503: "A passing state of the server; `retry-after` says when to come again.",
    504: "The answer took longer than its time limit.",
}
_WITHOUT_BODY = (400, 401, 403, 404, 414, 431, 500, 503)
_HEADERS: Json = {
    "x-request-id": {
        "description": "Names the request in the log.",
        "schema": {"type": "string"},
    },
    "x-sightline-warnings": {
        "description": "`field=reason` pairs of what was ignored.",
        "schema": {"type": "string"},
    },
}
_DESCRIPTION = """\
A private server for vision-language models in the dialects of OpenAI, Anthropic and Ollama.

Every path with `/v1` also answers without it. Fields that are not named here are ignored, and told
in `x-sightline-warnings`; the request header `x-sightline-strict: 1` refuses them.
"""


def openapi_document(limits: Limits, *, model: str | None, needs_key: bool) -> Json:
    """Return the document; its examples ask for `model`, if there is one already."""
    paths: Json = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method] = _operation(endpoint, model)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sightline",
            "version": sightline.__version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}] if needs_key else [{}, {"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": {
                **chat_requests.schemas(limits),
                **chat_answers.schemas(),
                **others.schemas(limits),
                **responses.schemas(),
                **anthropic.schemas(limits),
                **ollama.schemas(limits),
            },
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint, model: str | None) -> Json:
    operation: Json = {
        "tags": [endpoint.tag],
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "responses": _responses(endpoint),
    }
    if endpoint.open:
        operation["security"] = [{}]
    if endpoint.parameters:
        operation["parameters"] = list(endpoint.parameters)
    if endpoint.request is not None:
        content: Json = {"schema": ref(endpoint.request)}
        if endpoint.example is not None:
            content["examples"] = {"simple": {"value": _named(endpoint.example, model)}}
        operation["requestBody"] = {"required": True, "content": {"application/json": content}}
    return operation


def _named(example: Json, model: str | None) -> Any:
    return json.loads(json.dumps(example).replace(MODEL, model or "sightline-demo"))


def _responses(endpoint: Endpoint) -> Json:
    statuses = _ERRORS if endpoint.request else {s: _ERRORS[s] for s in _WITHOUT_BODY}
    responses: Json = {
        str(status): {
            "description": description,
            "headers": {"x-request-id": _HEADERS["x-request-id"]},
            "content": {"application/json": {"schema": ref(endpoint.errors)}},
        }
        for status, description in statuses.items()
    }
    if not endpoint.summary.startswith("Always 404"):
        schema = ref(endpoint.answer) if endpoint.answer else {}
        content: Json = {endpoint.media_type: {"schema": schema}}
        if endpoint.stream is not None:
            content[endpoint.stream_type] = {
                # Without a type: readers disagree whether it is the whole text or one event of it.
                "schema": {
                    "description": f"Each piece is JSON of the kind `{endpoint.stream}`.",
                    "x-piece": ref(endpoint.stream),
                }
            }
        responses["200"] = {
            "description": "The answer.",
            "headers": _HEADERS,
            "content": content,
        }
    return dict(sorted(responses.items()))
