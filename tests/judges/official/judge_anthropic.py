"""anthropic (Python)"""

import base64
from collections.abc import Iterator

import anthropic
import pytest

PACKAGE = "anthropic"
TOOL = {
    "name": "count_shapes",
    "description": "Count the shapes of one colour.",
    "input_schema": {
        "type": "object",
        "properties": {"colour": {"type": "string", "enum": ["red", "blue"]}},
        "required": ["colour"],
    },
}


@pytest.fixture
def client(server) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key=server.key, max_retries=0) as client:
        yield client


def ask(text: str) -> list:
    return [{"role": "user", "content": text}]


def test_a_message_about_a_picture(client, server, circle):
    source = {
        "type": "base64",
        "media_type": "image/png",
        "data": base64.b64encode(circle).decode(),
    }
    message = client.messages.create(
        model=server.model,
        max_tokens=48,
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "image", "source": source},
                    {"type": "text", "text": "这是什么?"},
                ],
            }
        ],
    )
    assert message.content[0].text
    assert message.stop_reason in ("end_turn", "max_tokens")
    assert message.usage.output_tokens > 0


def test_a_stream(client, server):
    with client.messages.stream(
        model=server.model, max_tokens=16, system="简短", messages=ask("你好")
    ) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert final.content[0].text == text


def test_a_tool_that_must_be_used(client, server):
    message = client.messages.create(
        model=server.model,
        max_tokens=200,
        tools=[TOOL],
        tool_choice={"type": "any"},
        messages=ask("红色的有几个?"),
    )
    block = next(block for block in message.content if block.type == "tool_use")
    assert block.name == "count_shapes"
    assert block.input["colour"] in ("red", "blue")
    assert message.stop_reason == "tool_use"


def test_a_tool_streamed_and_answered(client, server):
    with client.messages.stream(
        model=server.model,
        max_tokens=200,
        tools=[TOOL],
        tool_choice={"type": "tool", "name": "count_shapes"},
        messages=ask("红色的有几个?"),
    ) as stream:
        first = stream.get_final_message()
    block = next(block for block in first.content if block.type == "tool_use")
    result = {"type": "tool_result", "tool_use_id": block.id, "content": "3"}
    second = client.messages.create(
        model=server.model,
        max_tokens=16,
        tools=[TOOL],
        messages=[
            *ask("红色的有几个?"),
            {"role": "assistant", "content": [b.model_dump() for b in first.content]},
            {"role": "user", "content": [result]},
        ],
    )
    assert second.role == "assistant"


def test_tokens_are_counted(client, server):
    count = client.messages.count_tokens(model=server.model, messages=ask("你好"))
    assert count.input_tokens > 0


def test_each_refusal_is_its_class(client, server):
    with pytest.raises(anthropic.BadRequestError):
        client.messages.create(
            model=server.model, max_tokens=5, messages=ask("x"), extra_body={"temperature": 9}
        )
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="claude", max_tokens=5, messages=ask("x"))
    with pytest.raises(anthropic.AuthenticationError):
        client.with_options(api_key="wrong").messages.create(
            model=server.model, max_tokens=5, messages=ask("x")
        )
