"""Whole answers: their objects, headers and reports."""

import json
import re
from dataclasses import replace

import pytest
from front import PICTURE, Front, chat, serving
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.backends.fake import Reply, fake_info
from sightline.core.chat import Notice
from sightline.server.envelope import MAX_WARNINGS_BYTES, warnings_header


def test_a_completion_has_everything_that_clients_read(front: Front) -> None:
    body = front.post(chat("你好", PICTURE)).json()
    assert set(body) == {
        "id",
        "object",
        "created",
        "model",
        "system_fingerprint",
        "choices",
        "usage",
    }
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{32}", body["id"])
    assert body["object"] == "chat.completion"
    (choice,) = body["choices"]
    assert choice["index"] == 0
    assert choice["logprobs"] is None
    assert choice["finish_reason"] == "stop"
    assert set(choice["message"]) == {"role", "content", "refusal"}
    assert choice["message"]["content"].endswith("你好")


def test_usage_adds_up_and_knows_images(front: Front) -> None:
    usage = front.post(chat("hello", PICTURE)).json()["usage"]
    prompt = usage["prompt_tokens_details"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens"] == prompt["text_tokens"] + prompt["image_tokens"]
    assert prompt["image_tokens"] == 18
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 0


def test_every_answer_has_an_id_and_a_time(front: Front) -> None:
    for answer in (
        front.post(chat("x")),
        front.post(chat("x", stream=True)),
        front.post(b"{"),
        front.get("/nowhere"),
        front.get("/health"),
    ):
        assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["x-request-id"])
        assert int(answer.headers["openai-processing-ms"]) >= 0


def test_a_harmless_request_id_is_kept(front: Front) -> None:
    assert front.get("/health", headers={"x-request-id": "a.B-1_2"}).headers["x-request-id"] == (
        "a.B-1_2"
    )


def test_a_harmful_request_id_is_replaced(front: Front) -> None:
    for hostile in ("x" * 65, "a b", "a;b", '"', "é".encode().decode("latin-1")):
        answer = front.get("/health", headers={"x-request-id": hostile.encode("latin-1")})
        assert answer.headers["x-request-id"].startswith("req_")


def test_equal_request_ids_do_not_mix_answers(front: Front) -> None:
    bodies = [front.post(chat("x"), x_request_id="same").json() for _ in range(2)]
    assert bodies[0]["id"] != bodies[1]["id"]


def test_the_report_is_there_when_asked_for(front: Front) -> None:
    body = front.post(chat("x", PICTURE, sightline={"report": True}, user="u", foo=1)).json()
    assert body["sightline"].pop("timings")
    assert body["sightline"] == {
        "images": [
            {
                "param": "messages[0].content[0].image_url",
                "original_width": 640,
                "original_height": 480,
                "width": 112,
                "height": 112,
                "scale": [5.714286, 4.285714],
                "tokens": 18,
                "cached": False,
            }
        ],
        "boxes": [],
        "warnings": [
            {"field": "user", "reason": "not-used", "severity": "info"},
            {"field": "foo", "reason": "unknown-field", "severity": "warn"},
        ],
    }


def test_the_same_path_answers_without_v1_and_with_too_many_slashes(front: Front) -> None:
    for path in ("/chat/completions", "//v1//chat///completions/", "/v1/chat/completions"):
        assert front.post(chat("x"), path=path).status_code == 200


def test_the_answer_ends_at_a_stop_string(front: Front) -> None:
    body = front.post(chat("one two three", stop=[" three", "two"])).json()
    assert body["choices"][0]["message"]["content"] == "one "
    assert body["choices"][0]["finish_reason"] == "stop"


def test_a_developer_is_a_system(front: Front) -> None:
    token_ids = []
    for role in ("system", "developer"):
        messages = [{"role": role, "content": "s"}, {"role": "user", "content": "u"}]
        front.post({"model": "sightline-fake", "messages": messages})
        token_ids.append(front.engine.requests[-1].prompt.token_ids)
    assert token_ids[0] == token_ids[1]


def test_sampling_settings_reach_the_engine(front: Front) -> None:
    front.post(chat("x", temperature=0.5, top_p=0.25, seed=7, max_completion_tokens=9))
    params = front.engine.requests[-1].params
    assert (params.temperature, params.top_p, params.seed, params.max_tokens) == (0.5, 0.25, 7, 9)


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_shortened_answer_is_told_under_the_name_that_the_client_used(front, field) -> None:
    answer = front.post(chat("x", **{field: 2**31}))
    assert answer.headers["x-sightline-warnings"].startswith(f"{field}=lowered-to-")


NOTICES = st.lists(st.builds(Notice, field=st.text(), reason=st.text()), max_size=100)


@settings(deadline=None)
@given(NOTICES)
def test_a_warnings_header_is_always_short_and_safe(notices: list[Notice]) -> None:
    value = warnings_header(notices)
    assert len(value) <= MAX_WARNINGS_BYTES
    assert re.fullmatch(r"[A-Za-z0-9_.\[\]=, -]*", value)


def test_places_come_back_in_pixels_of_the_picture_as_sent(front: Front) -> None:
    says = "<ref>sun</ref><box>(0,500),(250,1000)</box>"
    front.enqueue(Reply(says), Reply(says))
    expected = [{"choice": 0, "image": 0, "label": "sun", "points": [[0, 240], [160, 480]]}]
    question = chat("x", PICTURE, sightline={"report": True})
    assert front.post(question).json()["sightline"]["boxes"] == expected
    lines = front.post(question | {"stream": True}).text.splitlines()
    reports = [json.loads(line[6:]) for line in lines if '"sightline"' in line]
    assert [report["sightline"]["boxes"] for report in reports] == [expected]


def test_places_of_a_model_that_means_pixels_of_what_it_saw_are_scaled_from_its_size() -> None:
    info = replace(fake_info(), box_units="pixels")  # the fake model sees 112 x 112
    with serving(Front(engine_options={"info": info})) as front:
        front.enqueue(Reply('[{"bbox_2d": [0, 56, 28, 112], "label": "sun"}]'))
        answer = front.post(chat("x", PICTURE, sightline={"report": True})).json()
        expected = [{"choice": 0, "image": 0, "label": "sun", "points": [[0, 240], [160, 480]]}]
        assert answer["sightline"]["boxes"] == expected
