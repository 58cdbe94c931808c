"""The bundled model is bound to schemas and calls that it was never taught."""

import base64
import json
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from pictures import red_circle
from pydantic import BaseModel
from served import Served

pytestmark = pytest.mark.live

PICTURE = "data:image/png;base64," + base64.b64encode(red_circle()).decode()
CONTENT = [
    {"type": "text", "text": "这是什么?"},
    {"type": "image_url", "image_url": {"url": PICTURE}},
]
MESSAGES: list[Any] = [{"role": "user", "content": CONTENT}]


class Shape(BaseModel):
    """Report what the picture shows."""

    colour: Literal["red", "green", "blue", "yellow"]
    shape: Literal["circle", "square", "triangle"]
    certain: bool


@pytest.fixture(scope="module")
def client(demo: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{demo.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_an_answer_of_a_schema_is_parsed(client: openai.OpenAI) -> None:
    completion = client.chat.completions.parse(
        model="glm-4v", messages=MESSAGES, response_format=Shape, temperature=0, max_tokens=300
    )
    assert isinstance(completion.choices[0].message.parsed, Shape)


def test_a_bare_schema_is_as_good(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(
        model="glm-4v",
        messages=MESSAGES,
        response_format={"type": "json_schema", "json_schema": Shape.model_json_schema()},  # type: ignore[typeddict-item]
        max_tokens=300,
    )
    Shape.model_validate_json(completion.choices[0].message.content or "")


def test_a_text_is_continued_in_the_form_of_a_schema(client: openai.OpenAI) -> None:
    wanted = {"type": "json_schema", "json_schema": Shape.model_json_schema()}
    completion = client.completions.create(
        model="glm-4v",
        prompt="A red circle as JSON: ",
        max_tokens=300,
        extra_body={"response_format": wanted},
    )
    Shape.model_validate_json(completion.choices[0].text)


def test_a_json_object_is_an_object(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(
        model="glm-4v",
        messages=MESSAGES,
        response_format={"type": "json_object"},
        temperature=0,
        max_tokens=400,
    )
    if completion.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(completion.choices[0].message.content or ""), dict)


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "Shape"}}]
)
def test_a_call_that_is_demanded_comes_and_is_valid(client: openai.OpenAI, choice: Any) -> None:
    completion = client.chat.completions.parse(
        model="glm-4v",
        messages=MESSAGES,
        tools=[openai.pydantic_function_tool(Shape)],
        tool_choice=choice,
        parallel_tool_calls=False,
        temperature=0,
        max_tokens=300,
    )
    message = completion.choices[0].message
    assert completion.choices[0].finish_reason == "tool_calls"
    (call,) = message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Shape)


def test_streamed_and_plain_structured_answers_are_the_same(client: openai.OpenAI) -> None:
    settings: dict[str, Any] = {
        "model": "glm-4v",
        "messages": MESSAGES,
        "seed": 3,
        "temperature": 1,
        "max_tokens": 300,
    }
    plain = client.chat.completions.parse(**settings, response_format=Shape)
    with client.chat.completions.stream(**settings, response_format=Shape) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion()
    assert streamed.choices[0].message.content == plain.choices[0].message.content


def test_choice_i_is_the_answer_to_the_seed_and_i(client: openai.OpenAI) -> None:
    evenly = {str(token_id): 90 for token_id in range(32, 64)}  # a model that is never sure

    def ask(**settings: Any) -> list[str | None]:
        completion = client.chat.completions.create(
            model="glm-4v",
            messages=MESSAGES,
            temperature=2,
            max_tokens=12,
            logit_bias=evenly,
            **settings,
        )
        return [choice.message.content for choice in completion.choices]

    together = ask(n=3, seed=40)
    assert together == [ask(seed=40 + i)[0] for i in range(3)]
    assert len(set(together)) > 1


def test_likelihoods_of_a_greedy_answer_are_the_best_ones(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(
        model="glm-4v", messages=MESSAGES, temperature=0, logprobs=True, top_logprobs=3
    )
    choice = completion.choices[0]
    assert choice.logprobs is not None
    content = choice.logprobs.content or []
    assert "".join(token.token for token in content) == choice.message.content
    for token in content:
        assert token.token == token.top_logprobs[0].token
        assert token.logprob == token.top_logprobs[0].logprob <= 0


def test_a_biased_token_never_comes(client: openai.OpenAI) -> None:
    def ask(**settings: Any) -> Any:
        return client.chat.completions.create(
            model="glm-4v", messages=MESSAGES, temperature=0, **settings
        )

    usual = ask().choices[0].message.content
    bias = {str(token_id): -100 for token_id in range(256, 1200)}
    few = dict(list(bias.items())[:300])
    assert usual is not None
    assert ask(logit_bias=few).choices[0].message.content != usual
