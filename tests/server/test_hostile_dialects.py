"""Whatever stands in a body: a refusal in the dialect's form, or an answer; never a 5xx."""

import json
from typing import Any

import pytest
from front import PICTURE, Front, chat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

WORDS = [{"type": "text", "text": "x"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": chat(
        "x",
        PICTURE,
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "f"}},
        stop=["a"],
        thinking={"type": "enabled"},
        chat_template_kwargs={"enable_thinking": True},
        logit_bias={"1": 1},
        logprobs=True,
        top_logprobs=1,
        mm_processor_kwargs={"max_pixels": 9},
        metadata={"a": "b"},
        modalities=["text"],
    ),
    "/v1/chat/completions/input_tokens": chat(
        "x",
        response_format={"type": "json_schema", "json_schema": {"schema": {"type": "object"}}},
        functions=[{"name": "f", "parameters": {"type": "object"}}],
        function_call={"name": "f"},
        reasoning_effort="low",
        sightline={"report": True},
    ),
    "/v1/completions": {"prompt": ["a", [1, 2]], "logprobs": 1, "echo": False, "n": 1},
    "/v1/responses": {
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "x"}]},
            {"type": "reasoning", "summary": [], "content": [{"text": "x"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "x"},
            {"role": "user", "content": [{"type": "input_image", "image_url": PICTURE}]},
        ],
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
        "text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}},
        "reasoning": {"effort": "low"},
        "include": ["message.output_text.logprobs"],
    },
    "/v1/messages": {
        "max_tokens": 4,
        "system": WORDS,
        "messages": [
            {"role": "user", "content": WORDS},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t", "content": WORDS},
                    {"type": "image", "source": {"type": "url", "url": "https://h/a.png"}},
                ],
            },
        ],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "auto"},
        "thinking": {"type": "enabled", "budget_tokens": 9},
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
    },
    "/api/chat": {
        "stream": False,
        "messages": [
            {"role": "user", "content": "x", "images": [PICTURE]},
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
            {"role": "tool", "content": "x", "tool_name": "f"},
        ],
        "tools": [TOOL],
        "options": {"temperature": 1, "num_predict": 3, "stop": ["a"], "num_ctx": 9},
        "format": "json",
        "think": True,
    },
    "/api/generate": {"stream": False, "prompt": "x", "system": "y", "images": [PICTURE]},
    "/tokenize": {"prompt": "x", "add_special_tokens": True, "return_token_strs": True},
    "/detokenize": {"tokens": [1, 2]},
}
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["\ud800", "\x00", "type", "auto", "x" * 300, "data:image/png;base64,!"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=4) | st.sampled_from(["type", "text", "name", "content"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of everything in a body."""
    found = [path] if path else []
    inner = enumerate(value) if isinstance(value, list) else None
    if isinstance(value, dict):
        inner = iter(value.items())
    for step, part in inner or ():
        found += places(part, (*path, step))
    return found


def put(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a copy of `body` with `value` at `path`."""
    copy = json.loads(json.dumps(body))
    *inner, last = path
    at = copy
    for step in inner:
        at = at[step]
    at[last] = value
    return copy


@pytest.mark.parametrize("path", BODIES)
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_anything_anywhere_is_answered_or_refused(front: Front, path: str, data: Any) -> None:
    body = {"model": "sightline-fake", **BODIES[path]}
    where = data.draw(st.sampled_from(places(body)))
    hostile = put(body, where, data.draw(ANYTHING))
    answer = front.post(hostile, path=path)
    assert answer.status_code < 500, (hostile, answer.text)
    if answer.status_code >= 400:
        assert answer.json()["error"]


@pytest.mark.parametrize("path", BODIES)
def test_the_body_that_hostility_starts_from_is_a_good_one(front: Front, path: str) -> None:
    answer = front.post({"model": "sightline-fake", **BODIES[path]}, path=path)
    assert answer.status_code == 200, answer.text
