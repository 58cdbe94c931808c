"""schemathesis, on the server's own OpenAPI document"""

import base64
import os
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import GenerationMode

PACKAGE = "schemathesis"
NUM_EXAMPLES = int(os.environ.get("JUDGE_EXAMPLES", "5"))
MODEL = os.environ.get("JUDGED_MODEL", "glm-4v")
PICTURE = base64.b64encode(Path(os.environ["JUDGE_PICTURE"]).read_bytes()).decode()
ADDRESS = f"data:image/png;base64,{PICTURE}"

HEADERS = {"Authorization": f"Bearer {os.environ['JUDGED_KEY']}"}
schema = schemathesis.openapi.from_url(os.environ["JUDGED_URL"] + "/openapi.json", headers=HEADERS)


@schema.parametrize()
@settings(
    max_examples=NUM_EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_operation_keeps_its_word(case):
    if case.meta.generation.mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
        case.body = sensible(case.body)
    if isinstance(case.body, dict):
        case.body = _brief(case.path, case.body)
    case.call_and_validate(headers=HEADERS, timeout=60)


def sensible(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body that a schema allows, made to keep the rules that no schema can say.

    That a string is a picture, that a result answers a call, that one field wants another, that
    5.0 is no integer, that a conversation fits the window.
    """
    body = {name: _whole(value) for name, value in body.items()}
    if "model" in body:
        body["model"] = MODEL
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        if body.get(name) is not None:
            body[name] = 4
    if not body.get("stream"):
        body.pop("stream_options", None)
    if not body.get("logprobs") or "prompt" in body:
        body.pop("top_logprobs", None)
    for name in ("logit_bias", "response_format", "format", "text", "mm_processor_kwargs", "raw"):
        body.pop(name, None)
    if isinstance(body.get("prompt"), list):
        body["prompt"] = [
            "x" if isinstance(p, str) else 7 if isinstance(p, int) else [7] for p in body["prompt"]
        ]
    if "tokens" in body:
        body["tokens"] = [7 for _ in body["tokens"]]
    for name in ("tools", "functions"):
        if body.get(name):
            body[name] = [_tool(tool, f"t{n}") for n, tool in enumerate(body[name][:3])]
    if body.get("tools"):
        body.pop("functions", None)
    for name in ("tool_choice", "function_call"):
        if body.get(name) not in ("auto", "none"):
            body.pop(name, None)
    if isinstance(body.get("images"), list):
        body["images"] = [PICTURE for _ in body["images"][:1]]
    for name in ("messages", "input"):
        if isinstance(body.get(name), list):
            body[name] = [_message(message) for message in body[name]]
    return body


def _brief(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return a body that asks for a short answer, unless its length is what is wrong with it."""
    match path.removeprefix("/v1"):
        case "/api/chat" | "/api/generate":
            options = {} if body.get("options") is None else body["options"]
            if not isinstance(options, dict):
                return body
            return body | {"options": _short(options, "num_predict", endless=(-1, -2))}
        case "/chat/completions" | "/completions":
            is_new = body.get("max_completion_tokens") is not None
            return _short(body, "max_completion_tokens" if is_new else "max_tokens")
        case "/responses":
            return _short(body, "max_output_tokens")
        case "/messages" if body.get("max_tokens") is not None:
            return _short(body, "max_tokens")
        case _:
            return body


def _short(fields: dict[str, Any], name: str, endless: tuple[int, ...] = ()) -> dict[str, Any]:
    length = fields.get(name)
    is_long = length is None or (type(length) is int and (length > 4 or length in endless))
    return fields | {name: 4} if is_long else fields


def _whole(value: Any) -> Any:
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {name: _whole(inner) for name, inner in value.items()}
        case list():
            return [_whole(inner) for inner in value]
        case str():
            return value[:100]
        case _:
            return value


def _tool(tool: dict[str, Any], name: str) -> dict[str, Any]:
    """Return `tool` under another name than its neighbours, with a schema that is one."""
    tool = {key: value for key, value in tool.items() if key != "strict"}
    if isinstance(tool.get("function"), dict):
        return tool | {"function": {"name": name, "parameters": {"type": "object"}}}
    if "name" not in tool:
        return tool
    key = "input_schema" if "input_schema" in tool else "parameters"
    return tool | {"name": name, key: {"type": "object"}}


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """Return `message` with at most one picture, and without what answers an earlier one."""
    if message.get("role") == "tool" or message.get("type") == "function_call_output":
        return {"role": "user", "content": "x"}
    if isinstance(message.get("images"), list):
        message["images"] = [PICTURE for _ in message["images"][:1]]
    if isinstance(message.get("content"), list):
        parts = [_part(part) for part in message["content"]]
        pictures = [part for part in parts if "image" in str(part.get("type"))]
        message["content"] = [part for part in parts if part not in pictures[1:]] or "x"
    return message


def _part(part: dict[str, Any]) -> dict[str, Any]:
    match part.get("type"):
        case "image_url" | "input_image":
            return {"type": part["type"], "image_url": ADDRESS}
        case "image":
            source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
            return {"type": "image", "source": source}
        case "tool_result":
            return {"type": "text", "text": "x"}
        case "tool_use":
            return part | {"input": {}}
        case _:
            return part
