"""What a prompt costs, without an answer: images counted, nothing fetched, nothing generated."""

import pytest
from front import PICTURE, Front, chat

COUNT = "/v1/chat/completions/input_tokens"


@pytest.mark.parametrize("path", [COUNT, COUNT.removeprefix("/v1")])
def test_the_count_names_text_images_and_the_window(front: Front, path: str) -> None:
    counted = front.post(chat("hello", PICTURE), path=path).json()
    assert counted == {
        "object": "chat.completion.input_tokens",
        "model": "sightline-fake",
        "input_tokens": counted["text_tokens"] + 18,
        "text_tokens": counted["text_tokens"],
        "image_tokens": 18,
        "max_model_len": 4096,
        "images": [{"param": "messages[0].content[0].image_url", "tokens": 18}],
    }


@pytest.mark.parametrize("question", [chat("你好"), chat("x", PICTURE), chat("x", stream=True)])
def test_the_count_is_what_the_answer_reports(front: Front, question) -> None:
    counted = front.post(question, path=COUNT).json()
    usage = front.post(question | {"stream": False}).json()["usage"]
    assert counted["input_tokens"] == usage["prompt_tokens"]
    assert counted["image_tokens"] == usage["prompt_tokens_details"]["image_tokens"]


def test_counting_fetches_and_generates_nothing(front: Front) -> None:
    num_before = len(front.engine.requests)
    assert front.post(chat("x", "https://broken.example/a.png"), path=COUNT).status_code == 200
    assert len(front.engine.requests) == num_before


def test_a_prompt_beyond_the_window_is_counted_too(front: Front) -> None:
    counted = front.post(chat("x" * 10_000), path=COUNT).json()
    assert counted["input_tokens"] > counted["max_model_len"]


def test_a_text_of_megabytes_is_refused_without_being_encoded(front: Front) -> None:
    error = front.post(chat("x" * 2**21), path=COUNT).json()["error"]
    assert error["code"] == "context_length_exceeded"


def test_dropped_images_are_not_counted_but_told(front: Front) -> None:
    turns = chat("one", PICTURE)["messages"] + chat("two", PICTURE)["messages"]
    answer = front.post({"model": "sightline-fake", "messages": turns}, path=COUNT)
    assert answer.json()["image_tokens"] == 18
    assert "messages[0].content[0].image_url=dropped" in answer.headers["x-sightline-warnings"]


DIALECTS = {
    "/v1/chat/completions": (COUNT, chat("x", max_tokens=9999), "max_tokens"),
    "/v1/responses": (
        "/v1/responses/input_tokens",
        {"model": "sightline-fake", "input": "x", "max_output_tokens": 9999},
        "max_output_tokens",
    ),
    "/v1/messages": (
        "/v1/messages/count_tokens",
        chat("x", max_tokens=9999),
        "max_tokens",
    ),
}


@pytest.mark.parametrize("path", DIALECTS)
def test_the_count_tells_that_the_answer_would_be_shortened(front: Front, path: str) -> None:
    count, body, field = DIALECTS[path]
    answered, counted = front.post(body, path=path), front.post(body, path=count)
    warnings = counted.headers["x-sightline-warnings"]
    assert warnings.startswith(f"{field}=lowered-to-")
    assert warnings == answered.headers["x-sightline-warnings"]
    assert front.post(body, path=count, x_sightline_strict="1").status_code == 400


def test_the_count_tells_that_the_model_does_not_think(front: Front) -> None:
    counted = front.post(chat("x", enable_thinking=True), path=COUNT)
    assert counted.headers["x-sightline-warnings"] == "enable_thinking=model-does-not-think"


def test_a_prompt_beyond_the_window_has_no_answer_to_shorten(front: Front) -> None:
    counted = front.post(chat("x" * 10_000, max_tokens=9999), path=COUNT)
    assert counted.status_code == 200
    assert "x-sightline-warnings" not in counted.headers


def test_what_a_chat_refuses_its_count_refuses_likewise(front: Front) -> None:
    unenforceable = {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}
    for body in (
        chat("x", response_format=unenforceable),
        chat("x", logit_bias={"99999": 1}),
        chat("x") | {"model": "gpt-4o"},
        chat("x", temperature=3),
        {"model": "sightline-fake", "messages": []},
        chat("x", PICTURE, PICTURE),
    ):
        asked, counted = front.post(body), front.post(body, path=COUNT)
        assert asked.status_code == counted.status_code
        assert asked.json() == counted.json()
