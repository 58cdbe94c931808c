"""Section 4 of the API's description: what its rows say of limits, defaults and odd forms.

That each field reaches the engine, is ignored with a notice or is refused, row by row, is in
`test_chat_fields.py`; what is out of bounds is in `test_parameters.py`.
"""

from typing import Any

import pytest
from front import PICTURE, Front, chat, events_of, serving

from sightline.backends.fake import Reply, fake_info
from sightline.core.limits import KIB

ROLES = ("system", "developer", "user", "assistant")


def told(front: Front, body: dict[str, Any], **headers: str) -> Any:
    answer = front.post(body, **headers)
    assert answer.status_code == 200, answer.text
    return answer


def refused(front: Front, body: dict[str, Any]) -> tuple[str, str]:
    answer = front.post(body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    return error["code"], error["param"]


def said(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return chat("q", **fields) | {"messages": list(messages)}


def prompt_of(front: Front) -> str:
    return bytes(t for t in front.engine.requests[-1].prompt.token_ids if t < 256).decode()


def test_the_row_model_takes_aliases() -> None:
    info = fake_info(model_id="org/name", aliases=("short",))
    with serving(Front(engine_options={"info": info})) as front:
        for name in ("org/name", "short"):
            assert told(front, chat("q") | {"model": name}).json()["model"] == "org/name"


def test_the_row_messages_1_to_256(front: Front) -> None:
    one = {"role": "user", "content": "x"}
    told(front, said(*[one] * 256))
    assert refused(front, said(*[one] * 257)) == ("invalid_value", "messages")
    assert refused(front, said()) == ("missing_required_parameter", "messages")


def test_the_row_messages_roles(front: Front) -> None:
    told(front, said(*({"role": role, "content": role} for role in ROLES)))
    assert prompt_of(front) == "".join(f"\n{role}" for role in ROLES)
    assert refused(front, said({"role": "root", "content": "x"}))[1] == "messages[0].role"


def test_the_row_messages_content_a_string_or_parts(front: Front) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    told(front, said({"role": "user", "content": parts}))
    assert prompt_of(front) == "\nab"


def test_the_row_messages_parts_of_the_histories_of_sdks(front: Front) -> None:
    answer = told(
        front,
        said(
            {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "b"}]},
            {"role": "user", "content": "c"},
            {"role": "assistant", "content": [{"type": "output_text", "text": "d"}]},
            {"role": "user", "content": "e"},
        ),
    )
    assert prompt_of(front) == "\na\nb\nc\nd\ne"
    assert "x-sightline-warnings" not in answer.headers
    refusal = {"type": "refusal", "refusal": "x"}
    not_the_users = said({"role": "user", "content": [refusal]})
    assert refused(front, not_the_users)[1] == "messages[0].content[0].type"
    wrong = said({"role": "assistant", "content": [refusal | {"refusal": 5}]})
    assert refused(front, wrong) == ("invalid_type", "messages[0].content[0].refusal")


def test_the_row_messages_null_where_nothing_was_said(front: Front) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    told(
        front,
        said(
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": None},
            {"role": "function", "name": "f", "content": None},
        ),
    )
    null = said({"role": "user", "content": None})
    assert refused(front, null) == ("invalid_type", "messages[0].content")


def test_the_row_messages_a_blank_is_no_error(front: Front) -> None:
    told(front, said({"role": "user", "content": " "}))


def test_the_row_messages_text_only_chats_always_work(front: Front) -> None:
    assert told(front, chat("ping", max_tokens=5)).json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_the_row_reasoning_in_history_is_taken(front: Front, name: str) -> None:
    answer = told(
        front,
        said(
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": "y", name: "hm"},
            {"role": "user", "content": "z"},
        ),
        x_sightline_strict="1",
    )
    assert "x-sightline-warnings" not in answer.headers


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", chat("q")),
        ("/v1/completions", {"model": "sightline-fake", "prompt": "q"}),
        ("/v1/responses", {"model": "sightline-fake", "input": "q"}),
        ("/v1/messages", chat("q", max_tokens=9)),
    ],
)
def test_the_row_stream_defaults_to_false_on_every_endpoint(
    front: Front, path: str, body: dict[str, Any]
) -> None:
    assert front.post(body, path=path).headers["content-type"] == "application/json"


def test_the_row_stream_options_needs_stream(front: Front) -> None:
    body = chat("q", stream_options={"include_usage": True})
    assert refused(front, body) == ("invalid_value", "stream_options")


@pytest.mark.parametrize("name", ["include_obfuscation", "continuous_usage_stats"])
def test_the_row_stream_options_ignores_what_changes_nothing(front: Front, name: str) -> None:
    body = chat("q", stream=True, stream_options={name: True})
    answer = told(front, body, x_sightline_strict="1")
    assert answer.headers["x-sightline-warnings"] == f"stream_options.{name}=not-used"
    assert events_of(answer.text)[-1] == "[DONE]"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_row_max_tokens_counts_new_tokens_only(front: Front, name: str) -> None:
    front.enqueue(Reply(["\n" + "x" * 50]))
    body = told(front, chat("a question of many tokens", **{name: 5})).json()
    assert body["usage"]["completion_tokens"] == 5
    assert body["choices"][0]["finish_reason"] == "length"


def test_the_row_max_tokens_two_different_values(front: Front) -> None:
    told(front, chat("q", max_tokens=5, max_completion_tokens=5))
    body = chat("q", max_tokens=5, max_completion_tokens=6)
    assert refused(front, body) == ("invalid_value", "max_completion_tokens")


def test_the_row_max_tokens_beyond_the_window_is_clamped(front: Front) -> None:
    answer = told(front, chat("q", max_tokens=10**6))
    assert answer.headers["x-sightline-warnings"].startswith("max_tokens=")
    assert front.engine.requests[-1].params.max_tokens < 4096


def test_the_row_max_tokens_a_prompt_that_fills_the_window(front: Front) -> None:
    assert refused(front, chat("x" * 4096)) == ("context_length_exceeded", "messages")


def test_the_rows_temperature_and_top_p_default_to_the_models_own(front: Front) -> None:
    told(front, chat("q", temperature=None))
    params = front.engine.requests[-1].params
    assert (params.temperature, params.top_p) == (0.0, 1.0)


@pytest.mark.parametrize("value", [0, -1])
def test_the_row_top_k_off(front: Front, value: int) -> None:
    told(front, chat("q", top_k=value))
    assert front.engine.requests[-1].params.top_k == 0


def test_the_rows_of_penalties_are_each_itself(front: Front) -> None:
    told(front, chat("q", presence_penalty=1.5, frequency_penalty=-0.5))
    params = front.engine.requests[-1].params
    assert (params.presence_penalty, params.frequency_penalty) == (1.5, -0.5)
    assert params.repetition_penalty == 1.0


def test_the_row_logit_bias_at_most_300_valid_ids(front: Front) -> None:
    biases: dict[str, float] = dict.fromkeys(map(str, range(270)), 1)
    told(front, chat("q", logit_bias=biases))
    assert refused(front, chat("q", logit_bias={"100000": 1})) == ("invalid_value", "logit_bias")
    many = dict.fromkeys(map(str, range(301)), 1)
    assert refused(front, chat("q", logit_bias=many)) == ("invalid_value", "logit_bias")


def test_the_row_top_logprobs_only_with_logprobs(front: Front) -> None:
    told(front, chat("q", logprobs=True, top_logprobs=20))
    assert refused(front, chat("q", top_logprobs=2)) == ("invalid_value", "top_logprobs")


def test_the_row_n_up_to_the_servers_cap(front: Front) -> None:
    assert len(told(front, chat("q", n=8)).json()["choices"]) == 8
    assert refused(front, chat("q", n=9)) == ("invalid_value", "n")


def test_the_row_n_shows_the_picture_once(front: Front) -> None:
    before = len(front.engine.requests)
    usage = told(front, chat("q", PICTURE, n=3)).json()["usage"]
    assert usage["prompt_tokens_details"]["image_tokens"] == 18
    pictures = {
        id(request.prompt.images[0].image) for request in list(front.engine.requests)[before:]
    }
    assert len(pictures) == 1


@pytest.mark.parametrize("value", ["x", ["a", "b", "c", "d"], ["y" * 256]])
def test_the_row_stop_a_string_or_up_to_4_of_256_characters(front: Front, value: object) -> None:
    told(front, chat("q", stop=value))


@pytest.mark.parametrize("value", [list("abcde"), "", "z" * 257])
def test_the_row_stop_out_of_bounds(front: Front, value: object) -> None:
    assert refused(front, chat("q", stop=value)) == ("invalid_value", "stop")


def test_the_row_seed_is_per_request(front: Front) -> None:
    told(front, chat("q", seed=7))
    assert front.engine.requests[-1].params.seed == 7
    told(front, chat("q"))
    assert front.engine.requests[-1].params.seed is None


@pytest.mark.parametrize("key", ["enable_thinking", "thinking"])
def test_the_row_chat_template_kwargs_unknown_keys_are_refused(front: Front, key: str) -> None:
    told(front, chat("q", chat_template_kwargs={key: True}))
    body = chat("q", chat_template_kwargs={key: True, "foo": 1})
    assert refused(front, body) == ("unsupported_parameter", "chat_template_kwargs.foo")


def test_the_row_mm_processor_kwargs_other_keys_are_refused(front: Front) -> None:
    told(front, chat("q", PICTURE, mm_processor_kwargs={"min_pixels": 10, "max_pixels": 100}))
    body = chat("q", PICTURE, mm_processor_kwargs={"size": 1})
    assert refused(front, body) == ("unsupported_parameter", "mm_processor_kwargs.size")


@pytest.mark.parametrize("row", ["user", "safety_identifier", "metadata", "prompt_cache_key"])
def test_the_row_is_at_most_64_kib(front: Front, row: str) -> None:
    long = "u" * (64 * KIB + 1)
    value = {"m": long} if row == "metadata" else long
    assert refused(front, chat("q", **{row: value})) == ("invalid_value", row)
    room = "画" * (64 * KIB // 3 - (3 if row == "metadata" else 0))
    told(front, chat("q", **{row: {"m": room} if row == "metadata" else room + "u"}))


def test_the_row_messages_a_result_may_name_its_tool(front: Front) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    answer = told(
        front,
        said(
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "name": "f", "content": "5"},
        ),
        x_sightline_strict="1",
    )
    assert "x-sightline-warnings" not in answer.headers


def test_a_mark_for_the_cache_in_a_part_changes_no_answer(front: Front) -> None:
    part = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
    answer = told(front, said({"role": "user", "content": [part]}), x_sightline_strict="1")
    told_of = answer.headers["x-sightline-warnings"]
    assert told_of == "messages[0].content[0].cache_control=not-used"


@pytest.mark.parametrize("row", ["uuid", "content_hash"])
def test_the_row_of_a_callers_id_for_a_picture_is_never_a_key(front: Front, row: str) -> None:
    digests = set()
    for url in (PICTURE, PICTURE + "AAAA"):
        part = {"type": "image_url", "image_url": {"url": url}, row: "the same"}
        answer = told(front, said({"role": "user", "content": [part]}), x_sightline_strict="1")
        assert answer.headers["x-sightline-warnings"] == f"messages[0].content[0].{row}=not-used"
        (span,) = front.engine.requests[-1].prompt.images
        digests.add(span.image.digest)
    assert len(digests) == 2


@pytest.mark.parametrize("row", ["uuid", "content_hash"])
def test_the_row_of_a_callers_id_for_a_picture_is_at_most_64_kib(front: Front, row: str) -> None:
    def asked(value: object) -> dict[str, Any]:
        part = {"type": "image_url", "image_url": {"url": PICTURE}, row: value}
        return said({"role": "user", "content": [part]})

    path = f"messages[0].content[0].{row}"
    told(front, asked("u" * 64 * KIB))
    told(front, asked(None))
    assert refused(front, asked("u" * (64 * KIB + 1))) == ("invalid_value", path)
    assert refused(front, asked(5)) == ("invalid_type", path)


def test_the_row_messages_a_call_whose_id_is_null_has_none(front: Front) -> None:
    call = {"id": None, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    told(
        front,
        said(
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "5"},
        ),
        x_sightline_strict="1",
    )


def test_the_row_anything_else_is_named_in_calls_and_messages_too(front: Front) -> None:
    function = {"name": "f", "arguments": "{}", "bar": 1}
    call = {"id": "c", "index": 0, "function": function, "foo": 1}
    answer = told(
        front,
        said(
            {"role": "user", "content": "x", "tool_call_id": "c"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "5"},
        ),
    )
    assert answer.headers["x-sightline-warnings"] == (
        "messages[0].tool_call_id=not-used, messages[1].tool_calls[0].foo=not-used, "
        "messages[1].tool_calls[0].function.bar=not-used"
    )


@pytest.mark.parametrize("field", ["tool_calls", "function_call"])
def test_the_row_messages_only_an_assistant_calls(front: Front, field: str) -> None:
    function = {"name": "f", "arguments": "{}"}
    value = [{"id": "c", "function": function}] if field == "tool_calls" else function
    body = said({"role": "user", "content": "x", field: value})
    assert refused(front, body) == ("invalid_value", f"messages[0].{field}")


def test_the_row_modalities_text_is_fine(front: Front) -> None:
    answer = told(front, chat("q", modalities=["text"]), x_sightline_strict="1")
    assert "x-sightline-warnings" not in answer.headers


def test_the_row_best_of_1_is_fine(front: Front) -> None:
    told(front, chat("q", best_of=1), x_sightline_strict="1")
