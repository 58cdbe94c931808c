"""Dify (plugin openai_api_compatible 0.0.63), its requests and its parser replayed"""

import json

import pytest
import requests

PACKAGE = None
TIMEOUT = (10, 300)


@pytest.fixture
def post(server):
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {server.key}"}

    def post(path: str, body: dict) -> requests.Response:
        body = {"model": server.model, **body}
        url = f"{server.v1}/{path}"
        is_stream = bool(body.get("stream"))
        return requests.post(url, json=body, headers=headers, timeout=TIMEOUT, stream=is_stream)

    return post


def parsed(answer: requests.Response) -> dict:
    """Take a stream apart as the plugin does: blocks by blank lines, calls merged by their id."""
    assert answer.status_code == 200, answer.text
    answer.encoding = "utf-8"
    found: dict = {"text": "", "reasoning": "", "calls": [], "finish": None, "usage": None}
    for block in answer.iter_lines(decode_unicode=True, delimiter="\n\n"):
        block = block.strip()
        if not block or block.startswith(":"):
            continue
        payload = block.removeprefix("data:").lstrip()
        if payload == "[DONE]":
            continue
        chunk = json.loads(payload)
        if chunk.get("error") and "choices" not in chunk:
            raise ValueError(chunk["error"])
        found["usage"] = chunk.get("usage") or found["usage"]
        if not chunk["choices"]:
            continue
        choice = chunk["choices"][0]
        found["finish"] = choice["finish_reason"]
        delta = choice["delta"]
        found["text"] += delta.get("content") or ""
        found["reasoning"] += delta.get("reasoning_content") or delta.get("reasoning") or ""
        for call in delta.get("tool_calls") or ():
            if call.get("id"):
                found["calls"].append(dict(call["function"]))
            else:
                found["calls"][-1]["arguments"] += call["function"].get("arguments") or ""
    return found


def ask(text: str) -> list:
    return [{"role": "user", "content": text}]


TOOL = {
    "name": "count_shapes",
    "description": "count",
    "parameters": {
        "type": "object",
        "properties": {"colour": {"type": "string", "enum": ["red", "blue"]}},
        "required": ["colour"],
    },
}


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_credentials_are_valid(post, name):
    answer = post("chat/completions", {name: 5, "messages": ask("ping")})
    assert answer.status_code == 200
    assert answer.json().get("object") in ("chat.completion", "", None)


def test_credentials_are_valid_in_completion_mode(post):
    answer = post("completions", {"max_tokens": 5, "prompt": "ping"})
    assert answer.status_code == 200
    assert answer.json()["object"] == "text_completion"


def test_credentials_are_valid_streaming(post):
    answer = post("chat/completions", {"max_tokens": 10, "stream": True, "messages": ask("ping")})
    assert answer.status_code == 200
    parsed(answer)


def test_an_endpoint_without_v1_works_too(server):
    answer = requests.post(
        f"{server.url}/chat/completions",
        json={"model": server.model, "max_tokens": 5, "messages": ask("ping")},
        headers={"Authorization": f"Bearer {server.key}"},
        timeout=TIMEOUT,
    )
    assert answer.status_code == 200


def test_a_wrong_key_is_told(server):
    answer = requests.post(
        f"{server.v1}/chat/completions",
        json={"model": server.model, "max_tokens": 5, "messages": ask("ping")},
        headers={"Authorization": "Bearer wrong"},
        timeout=TIMEOUT,
    )
    assert answer.status_code == 401
    assert "API key" in answer.text


def test_a_stream_with_all_usual_parameters(post):
    found = parsed(
        post(
            "chat/completions",
            {
                "stream": True,
                "stream_options": {"include_usage": True},
                "temperature": 0.5,
                "top_p": 0.9,
                "frequency_penalty": 0,
                "presence_penalty": 0,
                "max_tokens": 64,
                "stop": ["<|stop|>"],
                "user": "abc",
                "messages": [{"role": "system", "content": "简短"}, *ask("你好")],
            },
        )
    )
    assert found["text"]
    assert found["finish"] in ("stop", "length")
    assert found["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize("detail", ["low", "high"])
def test_vision(post, circle_url, detail):
    content = [
        {"type": "text", "text": "这是什么?"},
        {"type": "image_url", "image_url": {"url": circle_url, "detail": detail}},
    ]
    messages = [{"role": "user", "content": content}]
    found = parsed(
        post("chat/completions", {"stream": True, "max_tokens": 48, "messages": messages})
    )
    assert found["text"]


def test_pictures_of_earlier_turns_may_be_sent_again(post, circle_url):
    picture = {"type": "image_url", "image_url": {"url": circle_url, "detail": "low"}}
    turn = {"role": "user", "content": [picture, {"type": "text", "text": "这是什么?"}]}
    messages = [turn, {"role": "assistant", "content": "圆"}, turn]
    answer = post("chat/completions", {"max_tokens": 16, "messages": messages})
    assert answer.status_code == 200


def test_tool_calls(post):
    body = {
        "stream": True,
        "max_tokens": 200,
        "tools": [{"type": "function", "function": TOOL}],
        "tool_choice": "auto",
        "messages": ask("红色的有几个?"),
    }
    assert parsed(post("chat/completions", body))["finish"] in ("tool_calls", "stop", "length")
    forced = parsed(post("chat/completions", {**body, "tool_choice": "required"}))
    assert forced["finish"] == "tool_calls"
    assert forced["calls"][0]["name"] == "count_shapes"
    assert json.loads(forced["calls"][0]["arguments"])["colour"] in ("red", "blue")


def test_function_calls_of_the_old_kind(post):
    body = {"max_tokens": 200, "functions": [TOOL], "messages": ask("红色的有几个?")}
    answer = post("chat/completions", {**body, "function_call": {"name": "count_shapes"}})
    assert answer.status_code == 200, answer.text
    call = answer.json()["choices"][0]["message"]["function_call"]
    assert call["name"] == "count_shapes"
    history = [
        *body["messages"],
        {"role": "assistant", "content": "", "function_call": call},
        {"role": "function", "name": "count_shapes", "content": "3"},
    ]
    assert post("chat/completions", {**body, "messages": history}).status_code == 200


def test_structured_output_with_a_bare_schema(post):
    schema = {
        "type": "object",
        "properties": {"count": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["count"],
    }
    answer = post(
        "chat/completions",
        {
            "max_tokens": 200,
            "response_format": {"type": "json_schema", "json_schema": schema},
            "messages": [{"role": "system", "content": json.dumps(schema)}, *ask("几个?")],
        },
    )
    assert answer.status_code == 200, answer.text
    assert 0 <= json.loads(answer.json()["choices"][0]["message"]["content"])["count"] <= 9


@pytest.mark.parametrize(
    "extra",
    [
        {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}},
        {"enable_thinking": True},
        {"thinking": {"type": "disabled"}},
        {"reasoning_effort": "low"},
        {"reasoning_format": "auto"},
        {"web_search": True},
        {"tools": [{"type": "web_search"}]},
    ],
    ids=lambda extra: next(iter(extra)),
)
def test_its_extended_fields_are_taken(post, extra):
    answer = post("chat/completions", {"max_tokens": 8, "messages": ask("你好"), **extra})
    assert answer.status_code == 200, answer.text
