"""Numbers are finite, bounded and of the exact JSON type; nothing is dropped without a word."""

import json
import time

import pytest
from front import PICTURE, Front, chat, events_of

REFUSED = {
    "P01 max_tokens -1": ({"max_tokens": -1}, "invalid_value", "max_tokens"),
    "P02 max_tokens 0": ({"max_tokens": 0}, "invalid_value", "max_tokens"),
    "P04 max_tokens a string": ({"max_tokens": "10"}, "invalid_type", "max_tokens"),
    "max_tokens true": ({"max_tokens": True}, "invalid_type", "max_tokens"),
    "max_tokens 1.5": ({"max_tokens": 1.5}, "invalid_type", "max_tokens"),
    "max_completion_tokens 0": (
        {"max_completion_tokens": 0},
        "invalid_value",
        "max_completion_tokens",
    ),
    "P05 two lengths": (
        {"max_tokens": 5, "max_completion_tokens": 6},
        "invalid_value",
        "max_completion_tokens",
    ),
    "P07 temperature -0.1": ({"temperature": -0.1}, "invalid_value", "temperature"),
    "P08 temperature 2.01": ({"temperature": 2.01}, "invalid_value", "temperature"),
    "P09 temperature a string": ({"temperature": "0"}, "invalid_type", "temperature"),
    "temperature a list": ({"temperature": []}, "invalid_type", "temperature"),
    "P11 top_p 0": ({"top_p": 0}, "invalid_value", "top_p"),
    "P12 top_p -1": ({"top_p": -1}, "invalid_value", "top_p"),
    "top_p 1.1": ({"top_p": 1.1}, "invalid_value", "top_p"),
    "P14 top_k -2": ({"top_k": -2}, "invalid_value", "top_k"),
    "P14 top_k 2^31": ({"top_k": 2**31}, "invalid_value", "top_k"),
    "P14 top_k 1.5": ({"top_k": 1.5}, "invalid_type", "top_k"),
    "P15 min_p 1.1": ({"min_p": 1.1}, "invalid_value", "min_p"),
    "P15 repetition_penalty 0": ({"repetition_penalty": 0}, "invalid_value", "repetition_penalty"),
    "P15 repetition_penalty 1e30": (
        {"repetition_penalty": 1e30},
        "invalid_value",
        "repetition_penalty",
    ),
    "P16 frequency_penalty 2.01": (
        {"frequency_penalty": 2.01},
        "invalid_value",
        "frequency_penalty",
    ),
    "P16 presence_penalty -2.01": (
        {"presence_penalty": -2.01},
        "invalid_value",
        "presence_penalty",
    ),
    "P17 n 0": ({"n": 0}, "invalid_value", "n"),
    "P17 n -1": ({"n": -1}, "invalid_value", "n"),
    "P17 n 9": ({"n": 9}, "invalid_value", "n"),
    "P17 n 10^9": ({"n": 10**9}, "invalid_value", "n"),
    "n true": ({"n": True}, "invalid_type", "n"),
    "P18 best_of 10^6": ({"best_of": 10**6}, "unsupported_parameter", "best_of"),
    "P18 use_beam_search": ({"use_beam_search": True}, "unsupported_parameter", "use_beam_search"),
    "P19 five stop strings": ({"stop": list("abcde")}, "invalid_value", "stop"),
    "P19 an empty stop string": ({"stop": ""}, "invalid_value", "stop"),
    "P19 an empty stop string in a list": ({"stop": ["a", ""]}, "invalid_value", "stop[1]"),
    "P19 a long stop string": ({"stop": "x" * 10_240}, "invalid_value", "stop"),
    "P19 a stop number": ({"stop": [1]}, "invalid_type", "stop[0]"),
    "P19 a stop object": ({"stop": {}}, "invalid_type", "stop"),
    "P19 200 000 stop strings": ({"stop": ["a"] * 200_000}, "invalid_value", "stop"),
    "P20 top_logprobs 21": ({"top_logprobs": 21}, "invalid_value", "top_logprobs"),
    "P20 top_logprobs -1": ({"top_logprobs": -1}, "invalid_value", "top_logprobs"),
    "P20 top_logprobs alone": ({"top_logprobs": 2}, "invalid_value", "top_logprobs"),
    "logprobs 1": ({"logprobs": 1}, "invalid_type", "logprobs"),
    "logit_bias 301": (
        {"logit_bias": {str(i): 1 for i in range(301)}},
        "invalid_value",
        "logit_bias",
    ),
    "logit_bias of a word": ({"logit_bias": {"cat": 1}}, "invalid_value", "logit_bias"),
    "logit_bias of an unknown id": ({"logit_bias": {"270": 1}}, "invalid_value", "logit_bias"),
    "logit_bias 101": ({"logit_bias": {"5": 101}}, "invalid_value", "logit_bias.5"),
    "logit_bias a string": ({"logit_bias": {"5": "1"}}, "invalid_type", "logit_bias.5"),
    "logit_bias a list": ({"logit_bias": []}, "invalid_type", "logit_bias"),
    "P21 prompt_logprobs": (
        {"prompt_logprobs": 10**5},
        "unsupported_parameter",
        "prompt_logprobs",
    ),
    "P22 stream a string": ({"stream": "true"}, "invalid_type", "stream"),
    "P22 stream 1": ({"stream": 1}, "invalid_type", "stream"),
    "P23 an unknown format": (
        {"response_format": {"type": "xml"}},
        "invalid_value",
        "response_format.type",
    ),
    "a format without type": (
        {"response_format": {}},
        "missing_required_parameter",
        "response_format.type",
    ),
    "a format that is a string": ({"response_format": "json"}, "invalid_type", "response_format"),
    "S05 a wrapper without schema": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        "missing_required_parameter",
        "response_format.json_schema.schema",
    ),
    "S05 a schema format without schema": (
        {"response_format": {"type": "json_schema"}},
        "missing_required_parameter",
        "response_format.json_schema",
    ),
    "S01 tools an object": ({"tools": {}}, "invalid_type", "tools"),
    "S01 129 tools": ({"tools": [{}] * 129}, "invalid_value", "tools"),
    "S04 required without tools": ({"tool_choice": "required"}, "invalid_value", "tool_choice"),
    "S04 a named tool that is not there": (
        {"tool_choice": {"type": "function"}},
        "invalid_value",
        "tool_choice",
    ),
    "an allowed tool that is not there": (
        {
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "auto",
                    "tools": [{"type": "function", "function": {"name": "g"}}],
                },
            },
        },
        "invalid_value",
        "tool_choice.allowed_tools.tools[0]",
    ),
    "a budget upside down": (
        {"mm_processor_kwargs": {"min_pixels": 9, "max_pixels": 8}},
        "invalid_value",
        "mm_processor_kwargs.min_pixels",
    ),
    "an unknown tool choice": ({"tool_choice": "any"}, "invalid_value", "tool_choice"),
    "S02 a tool without name": (
        {"tools": [{"type": "function", "function": {}}]},
        "invalid_tool",
        "tools[0].function.name",
    ),
    **{
        f"S02 a tool named {name!r}": (
            {"tools": [{"type": "function", "function": {"name": name}}]},
            "invalid_tool",
            "tools[0].function.name",
        )
        for name in ("x" * 65, "a b", "a\n", 'a"', "../a", "😀", "")
    },
    "S02 two tools of one name": (
        {"tools": [{"type": "function", "function": {"name": "f"}}] * 2},
        "invalid_tool",
        "tools[1].function.name",
    ),
    **{
        f"S03 parameters of type {kind}": (
            {
                "tools": [
                    {"type": "function", "function": {"name": "f", "parameters": {"type": kind}}}
                ]
            },
            "invalid_schema",
            "tools[0].function.parameters",
        )
        for kind in ("array", "string", ["null", "integer"])
    },
    "S03 parameters a list": (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
        "invalid_schema",
        "tools[0].function.parameters",
    ),
    "S04 a choice of a tool that is not there": (
        {
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "tool_choice": {"type": "function", "function": {"name": "g"}},
        },
        "invalid_value",
        "tool_choice",
    ),
    "a choice of a legacy function that is not there": (
        {"function_call": {"name": "g"}, "functions": [{"name": "f"}]},
        "invalid_value",
        "function_call",
    ),
    "tools and functions": (
        {
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "functions": [{"name": "f"}],
        },
        "invalid_value",
        "functions",
    ),
    "a result without its call": (
        {"messages": [{"role": "tool", "tool_call_id": "call_9", "content": "x"}]},
        "invalid_value",
        "messages[0].tool_call_id",
    ),
    "a result without an id and without any call": (
        {"messages": [{"role": "tool", "content": "x"}]},
        "invalid_value",
        "messages[0].tool_call_id",
    ),
    "an unknown thinking mode": ({"thinking": {"type": "x"}}, "invalid_value", "thinking.type"),
    "P25 a huge user": ({"user": "u" * 2**20}, "invalid_value", "user"),
    "P25 huge metadata": ({"metadata": {"m": "u" * 2**20}}, "invalid_value", "metadata"),
    "a user that is a number": ({"user": 5}, "invalid_type", "user"),
    "P26 chat_template": ({"chat_template": "x"}, "unsupported_parameter", "chat_template"),
    "P26 documents": ({"documents": []}, "unsupported_parameter", "documents"),
    "P26 prompt_embeds": ({"prompt_embeds": "x"}, "unsupported_parameter", "prompt_embeds"),
    "P26 image_embeds": ({"image_embeds": "x"}, "unsupported_parameter", "image_embeds"),
    "P26 guided_regex": ({"guided_regex": "x"}, "unsupported_parameter", "guided_regex"),
    "P26 media_io_kwargs": ({"media_io_kwargs": {}}, "unsupported_parameter", "media_io_kwargs"),
    "P26 an unknown processor argument": (
        {"mm_processor_kwargs": {"path": "/etc"}},
        "unsupported_parameter",
        "mm_processor_kwargs.path",
    ),
    "an unknown template argument": (
        {"chat_template_kwargs": {"tokenize": True}},
        "unsupported_parameter",
        "chat_template_kwargs.tokenize",
    ),
    "audio": ({"modalities": ["text", "audio"]}, "unsupported_parameter", "modalities"),
    "stream_options without stream": (
        {"stream": None, "stream_options": {"include_usage": True}},
        "invalid_value",
        "stream_options",
    ),
    "include_usage 1": (
        {"stream": True, "stream_options": {"include_usage": 1}},
        "invalid_type",
        "stream_options.include_usage",
    ),
    "a seed of 65 bits": ({"seed": 2**64}, "invalid_value", "seed"),
    "a seed that is a string": ({"seed": "x"}, "invalid_type", "seed"),
    "P24 an empty model": ({"model": ""}, "model_not_found", "model"),
    "P24 a path for a model": ({"model": "../../etc/passwd"}, "model_not_found", "model"),
    "P24 a huge model": ({"model": "m" * 2**20}, "model_not_found", "model"),
    "P24 an unknown model": ({"model": "gpt-4o"}, "model_not_found", "model"),
    "a model that is a number": ({"model": 4}, "invalid_type", "model"),
    "a tool choice that is a number": ({"tool_choice": 5}, "invalid_type", "tool_choice"),
    "a function call that is a list": (
        {"functions": [{"name": "f"}], "function_call": ["f"]},
        "invalid_type",
        "function_call",
    ),
    "modalities as a string": ({"modalities": "text"}, "invalid_type", "modalities"),
    "use_beam_search a string": ({"use_beam_search": "no"}, "invalid_type", "use_beam_search"),
}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_parameter_is_refused_with_its_path(front: Front, case: str, stream: bool) -> None:
    fields, code, param = REFUSED[case]
    answer = front.post(chat("hello") | {"stream": stream} | fields)
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert answer.status_code == (404 if code == "model_not_found" else 400)
    assert len(error["message"]) <= 300
    assert set(error) == {"message", "type", "param", "code"}


def test_a_bound_of_nineteen_digits_is_told_with_all_of_them(front: Front) -> None:
    error = front.post(chat("hello", seed=2**63)).json()["error"]
    assert error["message"] == f"seed: {2**63} is above the maximum {2**63 - 1}."


def test_a_missing_model_is_a_missing_parameter(front: Front) -> None:
    answer = front.post({"messages": [{"role": "user", "content": "x"}]})
    assert answer.json()["error"] == {
        "message": "Missing required parameter: 'model'.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "missing_required_parameter",
    }


def test_absurd_counts_are_refused_at_once(front: Front) -> None:
    times = []
    for _ in range(10):
        started = time.monotonic()
        front.post(chat("x", n=10**9))
        times.append(time.monotonic() - started)
    assert min(times) < 0.2


# What Dify, LangChain and others send by default, and what maxima allow.
PASSED = {
    "P07 null temperature": {"temperature": None},
    "P13 top_p 1": {"top_p": 1},
    "temperature 2": {"temperature": 2},
    "temperature 0": {"temperature": 0},
    "idle penalties": {"presence_penalty": 0, "frequency_penalty": 0.0, "repetition_penalty": 1},
    "idle filters": {"top_k": -1, "min_p": 0},
    "top_k 0": {"top_k": 0},
    "one choice": {"n": 1, "best_of": 1},
    "no logprobs": {"logprobs": False, "top_logprobs": 0, "logit_bias": {}},
    "text format": {"response_format": {"type": "text"}},
    "two choices": {"n": 2},
    "penalties": {"presence_penalty": 2, "frequency_penalty": -2, "repetition_penalty": 10},
    "filters": {"top_k": 5, "min_p": 1},
    "a bias": {"logit_bias": {"5": -100, "269": 100}},
    "logprobs": {"logprobs": True, "top_logprobs": 20},
    "auto tools": {
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
    },
    "legacy functions": {"functions": [{"name": "f", "parameters": {}}], "function_call": "auto"},
    "no tools": {"tools": [], "tool_choice": "none", "parallel_tool_calls": True},
    "auto without tools": {"tool_choice": "auto"},
    "four stop strings": {"stop": ["~" * 256, "a~", "b~", "c~"]},
    "the largest seed": {"seed": 2**63 - 1},
    "a negative seed": {"seed": -5},
    "equal lengths": {"max_tokens": 50, "max_completion_tokens": 50},
    "five tokens": {"max_tokens": 5},
    "text only": {"modalities": ["text"]},
    "no stream": {"stream": False, "stream_options": None},
    "nulls everywhere": dict.fromkeys(
        ("stop", "seed", "top_p", "tools", "user", "logit_bias", "audio", "foo", "stream")
    ),
}


@pytest.mark.parametrize("case", PASSED)
def test_harmless_defaults_pass_without_a_notice(front: Front, case: str) -> None:
    answer = front.post(chat("hello") | PASSED[case], x_sightline_strict="1")
    assert answer.status_code == 200, answer.text
    assert "x-sightline-warnings" not in answer.headers


IGNORED = {
    "P27 an unknown field": ({"foo": 1}, "foo=unknown-field"),
    "P03 max_tokens 2^31": ({"max_tokens": 2**31}, "max_tokens="),
    "Dify's web search": ({"tools": [{"type": "web_search"}]}, "tools[0]=tool-type-not-supported"),
    "store": ({"store": True}, "store=nothing-is-kept"),
    "service_tier": ({"service_tier": "auto"}, "service_tier=not-supported"),
    "image budget": (
        {**chat("x", PICTURE), "mm_processor_kwargs": {"max_pixels": 5}},
        "mm_processor_kwargs.max_pixels=fixed-image-size",
    ),
}


@pytest.mark.parametrize("case", IGNORED)
def test_a_field_that_matters_is_named_when_it_is_ignored(front: Front, case: str) -> None:
    fields, warning = IGNORED[case]
    answer = front.post(chat("hello") | fields)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-sightline-warnings"].startswith(warning)


@pytest.mark.parametrize("case", IGNORED)
def test_strict_mode_refuses_what_would_be_ignored(front: Front, case: str) -> None:
    fields, warning = IGNORED[case]
    answer = front.post(chat("hello") | fields, x_sightline_strict="1")
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "unsupported_parameter"
    assert error["param"] == warning.partition("=")[0]


HARMLESS = {
    "user": ({"user": "dify"}, "user=not-used"),
    "metadata": ({"metadata": {"a": "b"}}, "metadata=not-used"),
    "store false": ({"store": False}, "store=nothing-is-kept"),
    "a thinking switch": ({"enable_thinking": False}, "enable_thinking=model-does-not-think"),
    "Dify's extended mode": (
        {"chat_template_kwargs": {"enable_thinking": True, "thinking": True}},
        "chat_template_kwargs=model-does-not-think",
    ),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_cannot_change_the_answer_is_named_but_never_refused(front: Front, case: str) -> None:
    fields, warning = HARMLESS[case]
    answer = front.post(chat("hello") | fields, x_sightline_strict="1")
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-sightline-warnings"] == warning


VLLM_DEFAULTS = {
    "add_generation_prompt": (True, False),
    "skip_special_tokens": (True, False),
    "continue_final_message": (False, True),
    "echo": (False, True),
    "ignore_eos": (False, True),
    "include_stop_str_in_output": (False, True),
    "return_token_ids": (False, True),
    "return_tokens_as_token_ids": (False, True),
    "length_penalty": (1.0, 1.5),
    "min_tokens": (0, 3),
    "priority": (0, -1),
    "stop_token_ids": ([], [5]),
}


def test_what_vllms_clients_send_by_default_asks_for_nothing(front: Front) -> None:
    defaults = {name: default for name, (default, _) in VLLM_DEFAULTS.items()}
    bans = {"bad_words": [], "allowed_token_ids": [], "logits_processors": []}
    answer = front.post(chat("x") | defaults | bans, x_sightline_strict="1")
    assert answer.status_code == 200, answer.text
    assert "x-sightline-warnings" not in answer.headers


@pytest.mark.parametrize("name", VLLM_DEFAULTS)
def test_what_vllms_clients_ask_for_besides_is_named_when_it_is_ignored(
    front: Front, name: str
) -> None:
    answer = front.post(chat("x") | {name: VLLM_DEFAULTS[name][1]})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-sightline-warnings"] == f"{name}=not-supported"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bad_words", ["no"]),
        ("allowed_token_ids", [5]),
        ("logits_processors", ["x"]),
        ("custom_logit_processor", "x"),
        ("ebnf", 'root ::= "a"'),
        ("json_schema", {"type": "object"}),
    ],
)
def test_a_bond_that_cannot_be_honoured_is_refused(front: Front, name: str, value: object) -> None:
    for path, body in (
        ("/v1/chat/completions", chat("x")),
        ("/v1/completions", {"model": "sightline-fake", "prompt": "x"}),
        ("/v1/responses", {"model": "sightline-fake", "input": "x"}),
    ):
        error = front.post(body | {name: value}, path=path).json()["error"]
        assert (error["code"], error["param"]) == ("unsupported_parameter", name)


def test_detail_low_is_no_less_than_auto(front: Front) -> None:
    low = {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}}
    body = chat("x") | {"messages": [{"role": "user", "content": [low]}]}
    answer = front.post(body)
    assert answer.json()["usage"]["prompt_tokens_details"]["image_tokens"] == 18
    expected = "messages[0].content[0].image_url.detail=no-effect"
    assert answer.headers["x-sightline-warnings"] == expected


def test_an_image_of_an_earlier_turn_gives_way_with_a_warning(front: Front) -> None:
    first, second = chat("a", PICTURE)["messages"][0], chat("b", PICTURE)["messages"][0]
    body = chat("x") | {"messages": [first, {"role": "assistant", "content": "ok"}, second]}
    answer = front.post(body)
    assert answer.status_code == 200
    assert "messages[0].content[0].image_url=" in answer.headers["x-sightline-warnings"]
    assert front.post(body, x_sightline_strict="1").status_code == 400


def test_the_warnings_of_many_fields_fit_into_a_kilobyte_of_safe_characters(front: Front) -> None:
    odd = {f"field\r\n{index};=, 中": index for index in range(500)}
    warnings = front.post(chat("hello") | odd).headers["x-sightline-warnings"]
    assert len(warnings) <= 1024
    assert warnings.isascii()
    assert warnings.isprintable()
    assert warnings.rpartition(", ")[2].startswith("more=4")


def test_all_maxima_hold_together(front: Front) -> None:
    body = chat(
        "hello",
        PICTURE,
        max_tokens=4000,
        max_completion_tokens=4000,
        temperature=2,
        top_p=1,
        seed=2**63 - 1,
        stop=["~" * 256] * 4,
        user="u" * 60_000,
        metadata={"m": "u" * 60_000},
    )
    assert front.post(body).status_code == 200


def test_the_prompt_that_fills_the_window_is_refused_with_both_numbers(front: Front) -> None:
    answer = front.post(chat("x" * 5000, PICTURE))
    error = answer.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert error["message"].startswith("This model's maximum context length is 4096 tokens. ")


SWEEP = (-1, 0, 2**31, 2**63, 1e308, "1", True, None, [], {}, [[]], 0.5)
FIELDS = (
    "model",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "stop",
    "seed",
    "stream",
    "stream_options",
    "sightline",
    "n",
    "top_k",
    "min_p",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "frequency_penalty",
    "parallel_tool_calls",
    "reasoning_effort",
    "reasoning_format",
    "chat_template_kwargs",
    "enable_thinking",
    "response_format",
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "presence_penalty",
    "repetition_penalty",
    "user",
    "metadata",
    "store",
    "modalities",
    "thinking",
    "mm_processor_kwargs",
    "best_of",
    "guided_json",
    "whatever",
)


@pytest.mark.parametrize("field", FIELDS)
def test_no_value_of_any_field_is_our_fault(front: Front, field: str) -> None:
    for value in SWEEP:
        answer = front.post(json.dumps(chat("hello") | {field: value}).encode())
        assert answer.status_code in (200, 400, 404), (value, answer.text)
        if answer.status_code != 200:
            assert set(answer.json()) == {"error"}
        elif field == "stream" and value is True:
            assert events_of(answer.text)[-1] == "[DONE]"
