"""The official SDK judges calls, choices, likelihoods, and answers that it parses itself."""

import json
from collections.abc import Iterator
from typing import Literal

import openai
import pytest
from front import Front, serving
from pydantic import BaseModel

from sightline.backends.fake import OBSERVATION, Reply

MODEL = "sightline-fake"
TOOL = openai.pydantic_function_tool


class Shape(BaseModel):
    """Report a shape."""

    colour: Literal["red", "blue"]
    count: int


REPLY = '{"colour": "red", "count": 2}'


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with serving(Front()) as front:
        yield front


@pytest.fixture(scope="module")
def client(front: Front) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=0) as client:
        yield client


QUESTION = [{"role": "user", "content": "What is this?"}]


def test_parse_reads_an_answer_of_the_schema(front: Front, client: openai.OpenAI) -> None:
    front.enqueue(Reply(["\n" + REPLY]))
    completion = client.chat.completions.parse(
        model=MODEL,
        messages=QUESTION,  # type: ignore[arg-type]
        response_format=Shape,
    )
    assert completion.choices[0].message.parsed == Shape(colour="red", count=2)


def test_parse_of_an_answer_that_was_cut_raises_its_own_error(
    front: Front, client: openai.OpenAI
) -> None:
    front.enqueue(Reply(["\n" + REPLY]))
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(
            model=MODEL,
            messages=QUESTION,  # type: ignore[arg-type]
            response_format=Shape,
            max_tokens=5,
        )


def test_parse_reads_a_call(front: Front, client: openai.OpenAI) -> None:
    front.enqueue(Reply([f"Shape\n{REPLY}", (OBSERVATION,)]))
    completion = client.chat.completions.parse(
        model=MODEL,
        messages=QUESTION,  # type: ignore[arg-type]
        tools=[TOOL(Shape)],
        tool_choice="required",
    )
    (call,) = completion.choices[0].message.tool_calls or []
    assert call.function.parsed_arguments == Shape(colour="red", count=2)


@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "in pieces"])
def test_the_stream_helper_gathers_calls(front: Front, client: openai.OpenAI, pieces: bool) -> None:
    front.enqueue(Reply([*f"Shape\n{REPLY}", (264,), *f"Shape\n{REPLY}", (OBSERVATION,)]))
    with client.chat.completions.stream(
        model=MODEL,
        messages=QUESTION,  # type: ignore[arg-type]
        tools=[TOOL(Shape)],
        extra_body={"sightline": {"stream_tool_arguments": pieces}},
    ) as stream:
        for _ in stream:
            pass
        completion = stream.get_final_completion()
    choice = completion.choices[0]
    assert choice.finish_reason == "tool_calls"
    calls = choice.message.tool_calls or []
    assert [json.loads(call.function.arguments) for call in calls] == [json.loads(REPLY)] * 2


def test_choices_and_likelihoods_are_read(front: Front, client: openai.OpenAI) -> None:
    front.enqueue(Reply(["\nyes"]), Reply(["\nyes"]))
    completion = client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,  # type: ignore[arg-type]
        n=2,
        logprobs=True,
        top_logprobs=3,
    )
    assert len(completion.choices) == 2
    for choice in completion.choices:
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        assert [token.token for token in choice.logprobs.content] == list("yes")
        assert len(choice.logprobs.content[0].top_logprobs) == 3


def test_a_conversation_goes_on_after_a_call(front: Front, client: openai.OpenAI) -> None:
    front.enqueue(Reply([f"Shape\n{REPLY}", (OBSERVATION,)]), Reply(["\nTwo red ones."]))
    messages: list[object] = [*QUESTION]
    tools = [TOOL(Shape)]
    first = client.chat.completions.create(model=MODEL, messages=messages, tools=tools)  # type: ignore[arg-type]
    message = first.choices[0].message
    assert message.tool_calls
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "stored"}
    messages += [message, result]
    second = client.chat.completions.create(model=MODEL, messages=messages, tools=tools)  # type: ignore[arg-type]
    assert second.choices[0].message.content == "Two red ones."
