"""`/v1/completions`: prompts continued as they are, under the rules of chat requests."""

import math
import re

import pytest
from front import Front, chat, events_of

from sightline.backends.fake import Reply
from sightline.core.chat import Likelihood, TokenLikelihood
from sightline.core.errors import InternalError
from sightline.server.completions.convert import LegacyLogprobs

PATH = "/v1/completions"
PREFIX = (258, 260)  # [gMASK]<sop> in the fake engine's vocabulary


def completion(prompt: object, **fields: object) -> dict[str, object]:
    return {"model": "sightline-fake", "prompt": prompt, "max_tokens": 64, **fields}


def refusal(front: Front, prompt: object, **fields: object) -> dict[str, str]:
    answer = front.post(completion(prompt, **fields), path=PATH)
    assert answer.status_code == 400, answer.text
    return answer.json()["error"]


@pytest.mark.parametrize("path", [PATH, "/completions"])
def test_a_text_is_continued(front: Front, path: str) -> None:
    front.enqueue(Reply(["\nand so on"]))
    answer = front.post(completion("Once"), path=path).json()
    assert re.fullmatch(r"cmpl-[0-9a-f]{32}", answer["id"])
    assert answer["object"] == "text_completion"
    assert answer["model"] == "sightline-fake"
    assert answer["choices"] == [
        # The newline that opens a chat's answer is text here.
        {"text": "\nand so on", "index": 0, "logprobs": None, "finish_reason": "stop"}
    ]
    prompt = front.engine.requests[-1].prompt.token_ids
    assert bytes(prompt[2:]) == b"Once"
    assert answer["usage"]["prompt_tokens"] == len(prompt) == 2 + 4
    assert answer["usage"]["completion_tokens"] == len("\nand so on") + 1


def test_a_list_of_texts_is_answered_in_order(front: Front) -> None:
    texts = ["a", "bb", "ccc"]
    answer = front.post(completion(texts), path=PATH).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert answer["usage"]["prompt_tokens"] == 3 * 2 + 6


def test_token_ids_are_taken_at_their_word(front: Front) -> None:
    for prompt in ([263, 72, 105], [[263, 72, 105]]):
        answer = front.post(completion(prompt), path=PATH).json()
        assert front.engine.requests[-1].prompt.token_ids == (263, 72, 105)
        assert answer["usage"]["prompt_tokens"] == 3


def test_a_mixed_list_is_answered_in_order(front: Front) -> None:
    answer = front.post(completion(["a", [72, 105]]), path=PATH).json()
    assert len(answer["choices"]) == 2


def test_without_a_length_it_is_openais(front: Front) -> None:
    front.enqueue(Reply(["x" * 99]))
    body = completion("x")
    del body["max_tokens"]
    (choice,) = front.post(body, path=PATH).json()["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("x" * 16, "length")


def test_a_length_that_nobody_asked_for_is_lowered_without_a_word(front: Front) -> None:
    body = completion([5] * 4090)
    del body["max_tokens"]
    answer = front.post(body, path=PATH, x_sightline_strict="1")
    assert answer.status_code == 200
    assert "x-sightline-warnings" not in answer.headers
    assert front.engine.requests[-1].params.max_tokens == 6


def test_settings_reach_the_engine_and_stop_strings_stop(front: Front) -> None:
    front.enqueue(Reply(["one two three"]))
    (choice,) = front.post(
        completion("x", temperature=0.5, top_p=0.25, seed=7, stop=" three"), path=PATH
    ).json()["choices"]
    params = front.engine.requests[-1].params
    assert (params.temperature, params.top_p, params.seed) == (0.5, 0.25, 7)
    assert choice["text"] == "one two"


def test_a_stream_says_the_same(front: Front) -> None:
    front.enqueue(Reply(["Hel", "lo"]), Reply(["Hel", "lo"]))
    plain = front.post(completion("x"), path=PATH).json()
    body = completion("x", stream=True, stream_options={"include_usage": True})
    events = events_of(front.post(body, path=PATH).text)
    assert events.pop() == "[DONE]"
    usage = events.pop()
    assert (usage["choices"], usage["usage"]) == ([], plain["usage"])
    assert all(event["object"] == "text_completion" for event in events)
    assert all(event["usage"] is None for event in events)
    choices = [event["choices"][0] for event in events]
    assert "".join(choice["text"] for choice in choices) == "Hello"
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]


def test_several_prompts_stream_side_by_side(front: Front) -> None:
    gate = front.new_gate()
    front.enqueue(Reply(["first", gate, "!"]), Reply(["second"]))
    body = completion(["a", "b"], stream=True)
    with front.client.stream("POST", front.url + PATH, json=body) as answer:
        texts = {0: "", 1: ""}
        finished = []
        for line in answer.iter_lines():
            if not line or line == "data: [DONE]":
                continue
            (event,) = events_of(line)
            (choice,) = event["choices"]
            texts[choice["index"]] += choice["text"]
            if choice["finish_reason"]:
                finished.append(choice["index"])
                front.on_loop(gate.set)
    assert sorted(texts.values()) == ["first!", "second"]
    assert texts[finished[0]] == "second"


@pytest.mark.parametrize(
    ("last", "code"),
    [("x " * 4000, "context_length_exceeded"), ([5, 99999], "invalid_value")],
    ids=["too long", "unknown id"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_every_prompt_is_judged_before_the_first_word_of_any(
    front: Front, last: str | list[int], code: str, stream: bool
) -> None:
    answer = front.post(completion([*"abcdefghi", last], stream=stream), path=PATH)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, "prompt[9]")


def test_a_stream_tells_of_every_prompt_whose_answer_is_cut_short(front: Front) -> None:
    body = completion(["a", "b c d"], stream=True, max_tokens=4095)
    warnings = front.post(body, path=PATH).headers["x-sightline-warnings"]
    assert warnings.count("max_tokens=lowered-to-") == 2
    assert front.post(body, path=PATH, x_sightline_strict="1").status_code == 400


def test_a_failure_of_one_prompt_fails_the_completion_and_frees_the_others(front: Front) -> None:
    gate = front.new_gate()
    front.enqueue(Reply(["a", gate]), Reply([], error=InternalError()))
    answer = front.post(completion(["a", "b"]), path=PATH)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"


@pytest.mark.parametrize(
    ("prompt", "fields", "code", "param"),
    [
        (None, {}, "invalid_type", "prompt"),
        (5, {}, "invalid_type", "prompt"),
        ([], {}, "missing_required_parameter", "prompt"),
        ([True], {}, "invalid_type", "prompt[0]"),
        (["a", 5], {}, "invalid_type", "prompt[1]"),
        ([1, "a"], {}, "invalid_type", "prompt[1]"),
        ([[1, 2.5]], {}, "invalid_type", "prompt[0][1]"),
        ([[]], {}, "invalid_value", "prompt[0]"),
        ([-1], {}, "invalid_value", "prompt"),
        ([["a"]], {}, "invalid_type", "prompt[0][0]"),
        (["a", [1, 99999]], {}, "invalid_value", "prompt[1]"),
        (["x"] * 65, {}, "invalid_value", "prompt"),
        ([{"type": "image_url"}], {}, "invalid_type", "prompt[0]"),
        ("x", {"images": ["data:"]}, "unsupported_parameter", "images"),
        ("x", {"messages": []}, "unsupported_parameter", "messages"),
        ("x", {"suffix": "end"}, "unsupported_parameter", "suffix"),
        ("x", {"echo": True}, "unsupported_parameter", "echo"),
        ("x", {"best_of": 2}, "unsupported_parameter", "best_of"),
        ("x", {"logprobs": 21}, "invalid_value", "logprobs"),
        ("x", {"logprobs": True}, "invalid_type", "logprobs"),
        ("x", {"temperature": 3}, "invalid_value", "temperature"),
        ("x", {"guided_regex": "a"}, "unsupported_parameter", "guided_regex"),
        ("x" * 5000, {}, "context_length_exceeded", "prompt"),
        (["a", "x" * 5000], {}, "context_length_exceeded", "prompt[1]"),
    ],
)
def test_what_cannot_be_is_refused_at_its_path(front: Front, prompt, fields, code, param) -> None:
    error = refusal(front, prompt, **fields)
    assert (error["code"], error["param"]) == (code, param)
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("prompt", "message"),
    [([[]], "prompt[0]: is empty."), (["a", [1, 99999]], "prompt[1]: token id 99999 is not")],
)
def test_a_refusal_names_its_prompt_as_it_was_sent(front: Front, prompt, message: str) -> None:
    assert refusal(front, prompt)["message"].startswith(message)


def test_the_prompt_is_required_and_the_model_must_exist(front: Front) -> None:
    error = front.post({"model": "sightline-fake"}, path=PATH).json()["error"]
    assert (error["code"], error["param"]) == ("missing_required_parameter", "prompt")
    assert front.post(completion("x") | {"model": "gpt"}, path=PATH).status_code == 404


def test_what_belongs_to_conversations_is_ignored_with_a_notice(front: Front) -> None:
    body = completion("x", tools=[{"type": "function"}], echo=False, suffix="", user="u")
    answer = front.post(body, path=PATH)
    assert answer.status_code == 200
    assert answer.headers["x-sightline-warnings"] == "tools=unknown-field, user=not-used"
    assert front.post(body, path=PATH, x_sightline_strict="1").status_code == 400


INTEGER = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "integer"}}}


@pytest.mark.parametrize(("prompt", "number"), [("x", 1), (["x", "y"], 2)])
@pytest.mark.parametrize("stream", [False, True])
def test_the_form_of_an_answer_binds_every_continuation(
    front: Front, prompt, number: int, stream: bool
) -> None:
    answer = front.post(completion(prompt, response_format=INTEGER, stream=stream), path=PATH)
    assert answer.status_code == 200
    assert "x-sightline-warnings" not in answer.headers
    for asked in list(front.engine.requests)[-number:]:
        assert '"type": "integer"' in asked.params.grammar


def test_a_text_is_no_form(front: Front) -> None:
    front.post(completion("x", response_format={"type": "text"}), path=PATH)
    assert front.engine.requests[-1].params.grammar is None


def test_a_form_that_cannot_be_enforced_is_refused_at_its_path(front: Front) -> None:
    wanted = {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}
    error = refusal(front, "x", response_format=wanted)
    assert (error["code"], error["param"]) == (
        "invalid_schema",
        "response_format.json_schema.schema",
    )


def test_a_report_that_completions_do_not_have_is_not_asked_for_in_silence(front: Front) -> None:
    answer = front.post(completion("x", sightline={"report": True}), path=PATH)
    assert answer.status_code == 200
    assert answer.headers["x-sightline-warnings"] == "sightline=unknown-field"


def test_likelihoods_are_told_in_parallel_lists_with_offsets_that_go_on() -> None:
    def token(raw: bytes) -> TokenLikelihood:
        other = Likelihood(token_id=1, raw=b"x", text="x", logprob=-1)
        return TokenLikelihood(token_id=0, raw=raw, text="", logprob=-0.5, top=(other,))

    legacy = LegacyLogprobs()
    assert legacy.of([token("é".encode()), token(b"b")]) == {
        "tokens": ["é", "b"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"é": -0.5, "x": -1}, {"b": -0.5, "x": -1}],
        "text_offset": [0, 1],
    }
    cut = legacy.of([token(b"\xe4\xb8")])
    assert cut["tokens"] == ["bytes:\\xe4\\xb8"]
    assert cut["text_offset"] == [2]
    assert math.isfinite(cut["token_logprobs"][0])


def test_an_answer_without_a_token_has_empty_lists_of_likelihoods(front: Front) -> None:
    front.enqueue(Reply([]))
    (choice,) = front.post(completion("x", logprobs=2), path=PATH).json()["choices"]
    assert choice["text"] == ""
    names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    assert choice["logprobs"] == {name: [] for name in names}


def test_a_client_that_leaves_frees_every_prompt(front: Front) -> None:
    gate = front.new_gate()
    front.enqueue(Reply(["a", gate]), Reply(["b", gate]))
    body = completion(["a", "b"], stream=True)
    with front.client.stream("POST", front.url + PATH, json=body) as answer:
        next(answer.iter_lines())
    # The fixture checks that the books are at zero afterwards.
    from front import eventually

    assert eventually(front.is_idle)
    assert front.post(chat("x")).status_code == 200
