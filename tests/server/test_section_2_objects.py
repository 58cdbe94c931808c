"""Section 2 of the API's description: every row of its table of objects."""

import pytest
from front import PICTURE, Front, chat, events_of

from sightline.backends.fake import Reply


def test_section_2_chat_completion_choice_message_usage(front: Front) -> None:
    body = front.post(chat("q", PICTURE)).json()
    assert {"id", "object", "created", "model", "choices", "usage"} <= body.keys()
    assert body["object"] == "chat.completion"
    (choice,) = body["choices"]
    assert choice.keys() == {"finish_reason", "index", "message", "logprobs"}
    assert choice["logprobs"] is None
    assert choice["message"].keys() == {"role", "content", "refusal"}
    prompt, completion = (body["usage"][f"{w}_tokens_details"] for w in ("prompt", "completion"))
    assert prompt.keys() == {
        "audio_tokens",
        "cached_tokens",
        "text_tokens",
        "image_tokens",
        "cache_write_tokens",
    }
    assert prompt["image_tokens"] + prompt["text_tokens"] == body["usage"]["prompt_tokens"]
    assert {"reasoning_tokens", "text_tokens"} <= completion.keys()


def test_section_2_text_completion(front: Front) -> None:
    body = front.post({"model": "sightline-fake", "prompt": "q"}, path="/v1/completions").json()
    assert body["object"] == "text_completion"
    assert body["choices"][0].keys() == {"text", "index", "logprobs", "finish_reason"}


def test_section_2_model(front: Front) -> None:
    (model,) = front.get("/v1/models").json()["data"]
    assert model["object"] == "model"
    assert {"id", "created", "owned_by", "max_model_len", "sightline"} <= model.keys()


def test_section_2_choice_finish_reasons(front: Front) -> None:
    reasons = set()
    front.enqueue(Reply(["\nx"]), Reply(["\nlong"]), Reply(["f\n{}"]), Reply(["f\n{}"]))
    tool = {"name": "f", "parameters": {"type": "object"}}
    for fields in (
        {},
        {"max_tokens": 2},
        {"tools": [{"type": "function", "function": tool}]},
        {"functions": [tool]},
    ):
        (choice,) = front.post(chat("q", **fields)).json()["choices"]
        reasons.add(choice["finish_reason"])
    assert reasons == {"stop", "length", "tool_calls", "function_call"}


def test_section_2_message_with_reasoning_and_calls(front: Front) -> None:
    front.enqueue(Reply(["<think>hm</think>f\n{}"]))
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    message = front.post(chat("q", tools=[tool])).json()["choices"][0]["message"]
    assert message["content"] is None
    assert message["refusal"] is None
    assert message["reasoning_content"] == message["reasoning"] == "hm"
    assert len(message["tool_calls"]) == 1


def test_section_2_usage_is_always_there_and_adds_up(front: Front) -> None:
    for path, body in (
        ("/v1/chat/completions", chat("q", PICTURE)),
        ("/v1/completions", {"model": "sightline-fake", "prompt": "q"}),
    ):
        usage = front.post(body, path=path).json()["usage"]
        assert usage["prompt_tokens"] > 0
        assert usage["completion_tokens"] > 0
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_section_2_usage_details_fill_images_texts_and_thoughts(front: Front) -> None:
    front.enqueue(Reply(["<think>hm</think>yes"]))
    usage = front.post(chat("q", PICTURE)).json()["usage"]
    prompt, completion = usage["prompt_tokens_details"], usage["completion_tokens_details"]
    assert prompt["image_tokens"] == 18
    assert prompt["text_tokens"] + prompt["image_tokens"] == usage["prompt_tokens"]
    assert completion["reasoning_tokens"] > 0
    told = completion["text_tokens"] + completion["reasoning_tokens"]
    assert told == usage["completion_tokens"]
    assert all(isinstance(value, int) for value in {**prompt, **completion}.values())


def test_section_2_model_says_what_it_can_do(front: Front) -> None:
    told = front.get("/v1/models/sightline-fake").json()["sightline"]
    assert told["input_modalities"] == ["text", "image"]
    assert told["max_images"] == 1
    assert told["tokens_per_image"] == 18
    assert told["detail"].keys() == {"auto", "low", "high", "original"}
    assert {told[what] for what in ("tools", "structured_output", "thinking")} <= {True, False}


def test_section_2_response_usage(front: Front) -> None:
    body = {"model": "sightline-fake", "input": "q"}
    usage = front.post(body, path="/v1/responses").json()["usage"]
    assert usage["input_tokens_details"].keys() >= {"cached_tokens", "cache_write_tokens"}
    assert usage["output_tokens_details"].keys() >= {"reasoning_tokens"}
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


@pytest.mark.parametrize("kind", ["embeddings", "rerank"])
def test_section_2_embeddings_and_rerank_only_with_such_a_model(front: Front, kind: str) -> None:
    answer = front.post({"model": "sightline-fake", "input": ["x"]}, path=f"/v1/{kind}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")


def test_section_2_system_fingerprint_is_one_constant_everywhere(front: Front) -> None:
    whole = front.post(chat("q")).json()["system_fingerprint"]
    *chunks, _ = events_of(front.post(chat("q", stream=True)).text)
    assert whole.startswith("fp_")
    assert {chunk["system_fingerprint"] for chunk in chunks} == {whole}


def test_section_2_sightline_report_only_when_asked_for(front: Front) -> None:
    assert "sightline" not in front.post(chat("q", PICTURE)).json()
    asked = chat("q", PICTURE, foo=1, sightline={"report": True})
    report = front.post(asked).json()["sightline"]
    (image,) = report["images"]
    assert image["param"] == "messages[0].content[0].image_url"
    assert image.keys() >= {"original_width", "width", "scale", "tokens", "cached"}
    assert [warning["field"] for warning in report["warnings"]] == ["foo"]
    *chunks, _ = events_of(front.post(asked | {"stream": True}).text)
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks if "sightline" in chunk] == [
        "stop"
    ]
