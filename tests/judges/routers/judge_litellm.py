"""litellm"""

import json

import litellm
import pytest

PACKAGE = "litellm"
TOOL = {
    "type": "function",
    "function": {
        "name": "count_shapes",
        "parameters": {
            "type": "object",
            "properties": {"colour": {"type": "string", "enum": ["red", "blue"]}},
            "required": ["colour"],
        },
    },
}


@pytest.fixture(params=["openai", "hosted_vllm"])
def where(request, server):
    return {
        "model": f"{request.param}/{server.model}",
        "api_base": server.v1,
        "api_key": server.key,
        "num_retries": 0,
    }


def ask(text: str) -> list:
    return [{"role": "user", "content": text}]


def test_a_picture(where, circle_url):
    content = [
        {"type": "text", "text": "这是什么?"},
        {"type": "image_url", "image_url": {"url": circle_url}},
    ]
    answer = litellm.completion(
        messages=[{"role": "user", "content": content}], max_tokens=32, **where
    )
    assert answer.choices[0].message.content
    assert answer.usage.total_tokens > 0


def test_a_stream(where):
    chunks = list(
        litellm.completion(
            messages=ask("你好"),
            max_tokens=16,
            stream=True,
            stream_options={"include_usage": True},
            **where,
        )
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


async def test_the_async_client(where):
    answer = await litellm.acompletion(messages=ask("你好"), max_tokens=8, **where)
    assert answer.choices[0].finish_reason in ("stop", "length")


def test_a_tool(where):
    answer = litellm.completion(
        messages=ask("红色的有几个?"),
        tools=[TOOL],
        tool_choice="required",
        max_tokens=200,
        **where,
    )
    call = answer.choices[0].message.tool_calls[0]
    assert json.loads(call.function.arguments)["colour"] in ("red", "blue")


def test_an_overflow_is_recognised(where):
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(messages=ask("字" * 9000), **where)


def test_a_wrong_key_is_recognised(where):
    with pytest.raises(litellm.AuthenticationError):
        litellm.completion(messages=ask("x"), **{**where, "api_key": "wrong"})
