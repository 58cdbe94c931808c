"""The official SDK is the judge: what it accepts, reads and raises."""

import asyncio
from collections.abc import Iterator

import openai
import pytest
from front import PICTURE, Front, eventually, serving
from openai.types.chat import ChatCompletionMessageParam

from sightline.backends.fake import Reply
from sightline.core.errors import InternalError

KEY = "sl-conformance"
MODEL = "sightline-fake"
QUESTION: list[ChatCompletionMessageParam] = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "这是什么?"},
            {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}},
        ],
    }
]


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with serving(Front(server_options={"api_keys": (KEY,)})) as front:
        yield front


@pytest.fixture(scope="module")
def client(front: Front) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def test_a_completion_is_read(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=64)
    assert completion.choices[0].message.content is not None
    assert completion.choices[0].message.content.endswith("这是什么?")
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.prompt_tokens_details is not None
    assert completion.usage.prompt_tokens_details.image_tokens == 18
    assert completion._request_id is not None
    assert completion._request_id.startswith("req_")


def test_a_stream_is_read(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.endswith("这是什么?")
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens > 0


def test_the_accumulating_stream_gives_the_plain_answer(client: openai.OpenAI) -> None:
    plain = client.chat.completions.create(model=MODEL, messages=QUESTION)
    with client.chat.completions.stream(
        model=MODEL, messages=QUESTION, stream_options={"include_usage": True}
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == plain.choices[0].message.content
    assert final.choices[0].message.role == "assistant"
    assert final.choices[0].finish_reason == plain.choices[0].finish_reason
    assert final.usage == plain.usage
    assert final.system_fingerprint == plain.system_fingerprint


def test_the_async_client_is_served_side_by_side(front: Front) -> None:
    async def ask_all() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key=KEY) as client:

            async def ask(text: str) -> str | None:
                completion = await client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": text}]
                )
                return completion.choices[0].message.content

            async def ask_streaming(text: str) -> str:
                stream = await client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": text}], stream=True
                )
                parts = [c.choices[0].delta.content or "" async for c in stream if c.choices]
                return "".join(parts)

            questions = [f"问题{index}" for index in range(8)]
            return await asyncio.gather(
                *map(ask, questions), *map(ask_streaming, reversed(questions))
            )

    answers = asyncio.run(ask_all())
    questions = [f"问题{index}" for index in range(8)]
    assert answers == [*questions, *reversed(questions)]


def test_a_stream_that_is_closed_early_frees_the_engine(
    client: openai.OpenAI, front: Front
) -> None:
    gate = front.new_gate()
    front.enqueue(Reply(["one", gate, "two"]))
    stream = client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    next(iter(stream))
    stream.close()
    assert eventually(front.is_idle)
    assert front.engine.requests[-1].outcome == "aborted"


def test_the_models_are_listed_and_found(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "sightline"


def test_each_refusal_raises_its_class(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=3)
    assert bad.value.code == "invalid_value"
    assert bad.value.param == "temperature"
    assert bad.value.type == "invalid_request_error"
    assert bad.value.request_id is not None
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-4o", messages=QUESTION)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=MODEL, input="x")


def test_an_error_in_a_stream_raises(client: openai.OpenAI, front: Front) -> None:
    front.enqueue(Reply(["Half"], error=InternalError()))
    stream = client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    with pytest.raises(openai.APIError, match="Internal error, request id req_"):
        list(stream)


def test_what_can_never_work_is_asked_once(client: openai.OpenAI, front: Front) -> None:
    front.enqueue(Reply([], error=InternalError()))
    num_before = len(front.engine.requests)
    with pytest.raises(openai.InternalServerError):
        client.with_options(max_retries=2).chat.completions.create(model=MODEL, messages=QUESTION)
    assert len(front.engine.requests) == num_before + 1
