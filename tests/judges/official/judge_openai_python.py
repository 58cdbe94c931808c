"""openai (Python)"""

from collections.abc import AsyncIterator, Iterator

import openai
import pydantic
import pytest
from conftest import Server

PACKAGE = "openai"
QUESTION = "这是什么?"
TOOL = {
    "type": "function",
    "function": {
        "name": "count_shapes",
        "description": "Count the shapes of one colour.",
        "parameters": {
            "type": "object",
            "properties": {"colour": {"type": "string", "enum": ["red", "blue"]}},
            "required": ["colour"],
            "additionalProperties": False,
        },
    },
}


class Shape(pydantic.BaseModel):
    colour: str = pydantic.Field(max_length=12)
    count: int = pydantic.Field(ge=0, le=9)


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.v1, api_key=server.key, max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(server: Server) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=server.v1, api_key=server.key) as client:
        yield client


def picture_question(url: str) -> list:
    parts = [
        {"type": "text", "text": QUESTION},
        {"type": "image_url", "image_url": {"url": url, "detail": "high"}},
    ]
    return [{"role": "user", "content": parts}]


def words(text: str) -> list:
    return [{"role": "user", "content": text}]


def test_chat_about_a_picture(client, server, circle_url):
    completion = client.chat.completions.create(
        model=server.model, messages=picture_question(circle_url), max_tokens=48, temperature=0
    )
    assert completion.choices[0].message.content
    assert completion.usage.prompt_tokens_details.image_tokens > 0
    assert completion.usage.total_tokens > completion.usage.completion_tokens > 0


def test_chat_streamed_with_usage(client, server, circle_url):
    asked = {"model": server.model, "messages": picture_question(circle_url), "temperature": 0}
    plain = client.chat.completions.create(**asked, max_tokens=48)
    chunks = list(
        client.chat.completions.create(
            **asked, max_tokens=48, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == plain.choices[0].message.content
    assert chunks[-1].usage == plain.usage


def test_the_accumulating_stream(client, server):
    with client.chat.completions.stream(
        model=server.model, messages=words("你好"), max_tokens=400, temperature=0
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].finish_reason == "stop"


async def test_the_async_client(async_client, server):
    stream = await async_client.chat.completions.create(
        model=server.model, messages=words("你好"), max_tokens=16, stream=True
    )
    assert [chunk async for chunk in stream][-1].choices[0].finish_reason


def test_several_choices_with_seeds(client, server):
    asked = {"model": server.model, "messages": words("颜色"), "max_tokens": 8, "seed": 7, "n": 3}
    first, again = (client.chat.completions.create(**asked) for _ in range(2))
    assert [choice.index for choice in first.choices] == [0, 1, 2]
    assert [c.message.content for c in first.choices] == [c.message.content for c in again.choices]


def test_logprobs(client, server):
    completion = client.chat.completions.create(
        model=server.model, messages=words("你好"), max_tokens=4, logprobs=True, top_logprobs=3
    )
    tokens = completion.choices[0].logprobs.content
    assert all(len(token.top_logprobs) == 3 and token.logprob <= 0 for token in tokens)


def test_stop_strings_and_penalties(client, server):
    completion = client.chat.completions.create(
        model=server.model,
        messages=words("你好"),
        max_tokens=32,
        stop=["。", "，"],
        presence_penalty=0.5,
        frequency_penalty=0.5,
        logit_bias={"10": -100},
    )
    assert "。" not in (completion.choices[0].message.content or "")


def test_parse_into_a_pydantic_model(client, server):
    completion = client.chat.completions.parse(
        model=server.model, messages=words("一个红色的圆"), response_format=Shape, max_tokens=200
    )
    assert isinstance(completion.choices[0].message.parsed, Shape)


def test_json_mode(client, server):
    completion = client.chat.completions.create(
        model=server.model,
        messages=words("JSON"),
        response_format={"type": "json_object"},
        max_tokens=300,
    )
    assert (completion.choices[0].message.content or "").lstrip().startswith("{")


@pytest.mark.parametrize(
    "choice",
    ["required", {"type": "function", "function": {"name": "count_shapes"}}],
    ids=["required", "named"],
)
def test_a_tool_call_that_must_come(client, server, choice):
    completion = client.chat.completions.create(
        model=server.model,
        messages=words("红色的有几个?"),
        tools=[TOOL],
        tool_choice=choice,
        max_tokens=200,
    )
    call = completion.choices[0].message.tool_calls[0]
    assert call.function.name == "count_shapes"
    assert '"colour"' in call.function.arguments


def test_a_tool_call_streamed(client, server):
    with client.chat.completions.stream(
        model=server.model,
        messages=words("红色的有几个?"),
        tools=[TOOL],
        tool_choice="required",
        max_tokens=200,
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].finish_reason == "tool_calls"
    assert final.choices[0].message.tool_calls[0].function.name == "count_shapes"


def test_a_tool_result_in_the_history(client, server):
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "count_shapes", "arguments": '{"colour": "red"}'},
    }
    history = [
        *words("红色的有几个?"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "3"},
    ]
    completion = client.chat.completions.create(
        model=server.model, messages=history, tools=[TOOL], max_tokens=16
    )
    assert completion.choices[0].finish_reason in ("stop", "length", "tool_calls")


def test_text_completions(client, server):
    completion = client.completions.create(model=server.model, prompt="你好", max_tokens=8)
    assert completion.object == "text_completion"
    chunks = client.completions.create(
        model=server.model, prompt=["a", "b"], max_tokens=4, stream=True
    )
    assert {chunk.choices[0].index for chunk in chunks if chunk.choices} == {0, 1}


def test_responses(client, server, circle_url):
    content = [
        {"type": "input_text", "text": QUESTION},
        {"type": "input_image", "image_url": circle_url, "detail": "auto"},
    ]
    response = client.responses.create(
        model=server.model,
        input=[{"role": "user", "content": content}],
        max_output_tokens=48,
        instructions="简短回答",
    )
    assert response.status in ("completed", "incomplete")
    assert response.output_text
    assert response.usage.output_tokens > 0


def test_responses_streamed(client, server):
    with client.responses.stream(model=server.model, input="你好", max_output_tokens=32) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] in ("response.completed", "response.incomplete")
    assert "response.output_text.delta" in kinds
    assert final.output_text


def test_responses_parse(client, server):
    response = client.responses.parse(
        model=server.model, input="一个红色的圆", text_format=Shape, max_output_tokens=200
    )
    assert isinstance(response.output_parsed, Shape)


def test_responses_with_a_tool(client, server):
    tool = {"type": "function", **TOOL["function"], "strict": True}
    response = client.responses.create(
        model=server.model,
        input="红色的有几个?",
        tools=[tool],
        tool_choice="required",
        max_output_tokens=200,
    )
    assert response.output[0].type == "function_call"
    assert response.output[0].name == "count_shapes"


def test_models(client, server):
    names = [model.id for model in client.models.list()]
    assert names
    assert client.models.retrieve(server.model).object == "model"


def test_each_refusal_is_its_class(client, server):
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model=server.model, messages=words("x"), temperature=3)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-4o", messages=words("x"))
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        client.chat.completions.create(model=server.model, messages=words("字" * 9000))
