"""The official SDK on what is not a chat: responses, text completions, counting."""

from collections.abc import Iterator

import openai
import pytest
from front import PICTURE, Front, serving

from sightline.backends.fake import Reply
from sightline.core.errors import InternalError

MODEL = "sightline-fake"


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with serving(Front()) as front:
        yield front


@pytest.fixture(scope="module")
def client(front: Front) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_response_is_read(client: openai.OpenAI) -> None:
    response = client.responses.create(
        model=MODEL,
        instructions="be kind",
        input=[
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "这是什么?"},
                    {"type": "input_image", "image_url": PICTURE, "detail": "low"},
                ],
            }
        ],
    )
    assert response.output_text.endswith("这是什么?")
    assert response.status == "completed"
    assert response.usage is not None
    assert response.usage.total_tokens > 0


def test_a_streamed_response_accumulates_to_the_same(client: openai.OpenAI) -> None:
    with client.responses.stream(model=MODEL, input="hello") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_text == "hello"
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"


def test_a_response_that_fails_on_its_way_says_so(client: openai.OpenAI, front: Front) -> None:
    front.enqueue(Reply(["Half"], error=InternalError()))
    *_, last = client.responses.create(model=MODEL, input="x", stream=True)
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.code == "server_error"


def test_the_tokens_of_a_response_are_counted(client: openai.OpenAI) -> None:
    counted = client.responses.input_tokens.count(model=MODEL, input="hello")
    response = client.responses.create(model=MODEL, input="hello")
    assert response.usage is not None
    assert counted.input_tokens == response.usage.input_tokens


def test_a_refusal_of_a_response_raises_its_class(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model=MODEL, input="x", previous_response_id="resp_1")
    assert refused.value.param == "previous_response_id"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_1")


def test_a_text_is_completed_whole_and_streamed(client: openai.OpenAI, front: Front) -> None:
    front.enqueue(Reply(["and ", "so on"]), Reply(["and ", "so on"]))
    whole = client.completions.create(model=MODEL, prompt="Once")
    assert whole.choices[0].text == "and so on"
    chunks = client.completions.create(
        model=MODEL, prompt="Once", stream=True, stream_options={"include_usage": True}
    )
    texts, usage = "", None
    for chunk in chunks:
        texts += "".join(choice.text for choice in chunk.choices)
        usage = chunk.usage or usage
    assert texts == "and so on"
    assert usage == whole.usage


def test_several_prompts_are_completed_in_order(client: openai.OpenAI) -> None:
    completion = client.completions.create(model=MODEL, prompt=["a", "b"], max_tokens=5)
    assert [choice.index for choice in completion.choices] == [0, 1]
